-- Deletes a task, and its id wherever it stands.
--
-- KEYS[1] asynq:{<queue>}:t:<id>
-- KEYS[2] asynq:{<queue>}:pending
-- KEYS[3] asynq:{<queue>}:active
-- KEYS[4] and on: asynq:{<queue>}:scheduled, :retry, :archived, :completed, :lease
-- ARGV[1] the id
-- ARGV[2] what the task's uniqueness lock begins with, asynq:{<queue>}:unique:
-- Returns 1 if there was anything.
local found = redis.call('LREM', KEYS[2], 0, ARGV[1]) + redis.call('LREM', KEYS[3], 0, ARGV[1])
for i = 4, #KEYS do
  found = found + redis.call('ZREM', KEYS[i], ARGV[1])
end
local lock = redis.pcall('HGET', KEYS[1], 'unique_key')
if type(lock) == 'string' and string.sub(lock, 1, #ARGV[2]) == ARGV[2] and redis.call('GET', lock) == ARGV[1] then
  redis.call('DEL', lock)
end
found = found + redis.call('DEL', KEYS[1])
return found > 0 and 1 or 0
