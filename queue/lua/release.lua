-- Takes a worker's mark from a job; another worker's stays.
--
-- KEYS[1] imgus:owner:<id>
-- ARGV[1] the worker's id
-- Returns 1 if the mark was the worker's, else 0.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
