-- Lists every task of a queue, wherever it stands, as of one moment.
--
-- KEYS[1] asynq:{<queue>}:pending
-- KEYS[2] asynq:{<queue>}:active
-- KEYS[3] and on: asynq:{<queue>}:scheduled, :retry, :archived, :completed, :lease
-- Returns the ids. One may be there twice.
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
for i = 2, #KEYS do
  local more = i == 2 and redis.call('LRANGE', KEYS[i], 0, -1) or redis.call('ZRANGE', KEYS[i], 0, -1)
  for _, id in ipairs(more) do
    ids[#ids + 1] = id
  end
end
return ids
