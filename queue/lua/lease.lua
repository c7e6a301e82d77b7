-- Gives an active task a lease if it has none.
--
-- KEYS[1] asynq:{<queue>}:active
-- KEYS[2] asynq:{<queue>}:lease
-- ARGV[1] the id
-- ARGV[2] when the lease expires, in seconds since 1970
-- Returns 1 if it did, else 0.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return 0
end
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if id == ARGV[1] then
    return redis.call('ZADD', KEYS[2], ARGV[2], id)
  end
end
return 0
