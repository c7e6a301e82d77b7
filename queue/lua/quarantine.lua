-- Deletes a task that cannot be read, and its id wherever it stands, if
-- message and lease are as they were when that was found out.
--
-- KEYS[1] asynq:{<queue>}:t:<id>, which may be of any kind
-- KEYS[2] asynq:{<queue>}:lease
-- KEYS[3] asynq:{<queue>}:archived
-- KEYS[4] asynq:{<queue>}:retry
-- KEYS[5] asynq:{<queue>}:scheduled
-- KEYS[6] asynq:{<queue>}:active
-- KEYS[7] asynq:{<queue>}:pending
-- ARGV[1] the id
-- ARGV[2] SHA-1 of the message as it was seen, in hex; '' for none
-- ARGV[3] the lease as it was seen, '' for none
-- ARGV[4] what the task's uniqueness lock begins with, asynq:{<queue>}:unique:
-- Returns 1 if it did, 0 if there was nothing, or it was touched meanwhile.
local message = redis.pcall('HGET', KEYS[1], 'msg')
local digest = type(message) == 'string' and message ~= '' and redis.sha1hex(message) or ''
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1]) or ''
if digest ~= ARGV[2] or lease ~= ARGV[3] and tonumber(lease) ~= tonumber(ARGV[3]) then
  return 0
end
local found = redis.call('LREM', KEYS[6], 0, ARGV[1]) + redis.call('LREM', KEYS[7], 0, ARGV[1])
for i = 2, 5 do
  found = found + redis.call('ZREM', KEYS[i], ARGV[1])
end
local lock = redis.pcall('HGET', KEYS[1], 'unique_key')
if type(lock) == 'string' and string.sub(lock, 1, #ARGV[4]) == ARGV[4] and redis.call('GET', lock) == ARGV[1] then
  redis.call('DEL', lock)
end
found = found + redis.call('DEL', KEYS[1])
return found > 0 and 1 or 0
