-- Sets a job's status and tells who watches, unless the job has ended or a
-- later attempt has spoken. An end is the record's, whoever tells of it, and goes
-- before what a later attempt says of itself.
--
-- KEYS[1] imgus:job:<id>
-- ARGV[1] the attempt that speaks; below 0 only if there is no status yet
-- ARGV[2] seconds until the status expires
-- ARGV[3] the channel
-- ARGV[4] the status as JSON
-- ARGV[5] and on: the status as field, value, field, value, ..., the state first
-- Returns 1 if it was set, else 0.
local now = redis.call('HMGET', KEYS[1], 'state', 'attempt')
local final = {done = true, failed = true, cancelled = true, erased = true}
if final[now[1]] or not final[ARGV[6]] and tonumber(now[2] or -1) > tonumber(ARGV[1]) then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
