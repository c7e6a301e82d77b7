-- Begins an attempt. A replay, after a lost reply, changes nothing.
--
-- KEYS[1] imgus:attempts:<id>
-- ARGV[1] the attempt's id
-- ARGV[2] seconds until the key expires
-- Returns the attempt's number and how many attempts count against the job.
if redis.call('HGET', KEYS[1], 'last') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'last', ARGV[1])
  redis.call('HINCRBY', KEYS[1], 'begun', 1)
  redis.call('HINCRBY', KEYS[1], 'counted', 1)
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local n = redis.call('HMGET', KEYS[1], 'begun', 'counted')
return {tonumber(n[1]), tonumber(n[2])}
