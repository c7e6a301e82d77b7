-- Takes an attempt back: it does not count against the job. A replay changes
-- nothing.
--
-- KEYS[1] imgus:attempts:<id>
-- ARGV[1] the attempt's id
if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HGET', KEYS[1], 'uncounted') ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'uncounted', ARGV[1])
  redis.call('HINCRBY', KEYS[1], 'counted', -1)
end
return 0
