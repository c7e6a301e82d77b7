-- Puts tasks that stand in none of their queue's lists, so that no worker would
-- ever come to them, at the head of the queue. All that moves a task between
-- lists does so in one script, so one look is enough.
--
-- KEYS[1] asynq:{<queue>}:pending
-- KEYS[2] asynq:{<queue>}:active
-- KEYS[3] to [7] asynq:{<queue>}:lease, :scheduled, :retry, :archived, :completed
-- KEYS[8] and on: asynq:{<queue>}:t:<id>, the tasks
-- ARGV[1] the time, in nanoseconds since 1970
-- ARGV[2] and on: their ids
-- Returns the ids of those that it put back.
local standing = {}
for i = 1, 2 do
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do
    standing[id] = true
  end
end
local back = {}
for i = 8, #KEYS do
  local id = ARGV[i - 6]
  local state = redis.pcall('HGET', KEYS[i], 'state')
  local stray = type(state) == 'string' and state ~= 'aggregating' and not standing[id]
  for k = 3, 7 do
    stray = stray and not redis.call('ZSCORE', KEYS[k], id)
  end
  if stray then
    redis.call('RPUSH', KEYS[1], id)
    redis.call('HSET', KEYS[i], 'state', 'pending', 'pending_since', ARGV[1])
    back[#back + 1] = id
  end
end
return back
