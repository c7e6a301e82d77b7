-- Puts tasks that wait to be grouped into their queue, each as what it is.
--
-- KEYS[1] asynq:{<queue>}:g:<group>
-- KEYS[2] asynq:{<queue>}:groups
-- KEYS[3] asynq:{<queue>}:pending
-- ARGV[1] the group
-- ARGV[2] what a task's key begins with, asynq:{<queue>}:t:
-- Returns how many there were.
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(ids) do
  redis.call('LPUSH', KEYS[3], id)
  redis.call('HSET', ARGV[2] .. id, 'state', 'pending')
  redis.call('HDEL', ARGV[2] .. id, 'group')
end
redis.call('DEL', KEYS[1])
redis.call('SREM', KEYS[2], ARGV[1])
return #ids
