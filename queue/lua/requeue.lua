-- Puts a task that nobody works on back to the head of its queue, if its state
-- and its lease are as they were when that was found out. A worker that has it
-- extends the lease every few seconds, so what is alive is never taken. The owner's
-- mark was asked for before: on a Cluster it is on another node than the queue.
--
-- KEYS[1] asynq:{<queue>}:active
-- KEYS[2] asynq:{<queue>}:lease
-- KEYS[3] asynq:{<queue>}:archived
-- KEYS[4] asynq:{<queue>}:pending
-- KEYS[5] asynq:{<queue>}:t:<id>
-- ARGV[1] the id
-- ARGV[2] the state as it was seen, '' for none
-- ARGV[3] the lease as it was seen, '' for none
-- ARGV[4] the time, in nanoseconds since 1970
-- Returns 1 if the task is pending again, 2 if it waits elsewhere and only
-- stray entries went, 0 if it was touched meanwhile.
local state = redis.call('HGET', KEYS[5], 'state') or ''
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1]) or ''
if state ~= ARGV[2] or lease ~= ARGV[3] and tonumber(lease) ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('LREM', KEYS[1], 0, ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
local waits = {pending = true, retry = true, scheduled = true, aggregating = true, completed = true}
if waits[state] then
  return 2
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('LREM', KEYS[4], 0, ARGV[1])
redis.call('RPUSH', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[5], 'state', 'pending', 'pending_since', ARGV[4])
return 1
