-- Marks a job as a worker's, or renews the mark, unless it is another's.
--
-- KEYS[1] imgus:owner:<id>
-- ARGV[1] the worker's id
-- ARGV[2] milliseconds until the mark expires
-- Returns 1 if the job is the worker's, else 0.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
