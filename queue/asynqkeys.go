package queue

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis' scripts have no other digest; it only compares
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// asynqQueue is one queue as asynq keeps it in Redis: lists and sorted sets of
// ids, and a hash per task. asynq keeps all of a queue in one slot.
type asynqQueue struct {
	redis redis.UniversalClient
	name  string
}

func (q asynqQueue) key(suffix string) string { return "asynq:{" + q.name + "}:" + suffix }

func (q asynqQueue) keys(names ...string) []string {
	for i, name := range names {
		names[i] = q.key(name)
	}
	return names
}

// held lists the tasks that are active or have a lease, each with its lease as
// text, "" for none.
func (q asynqQueue) held(ctx context.Context) (map[string]string, error) {
	pipe := q.redis.Pipeline()
	active := pipe.LRange(ctx, q.key("active"), 0, -1)
	leases := pipe.ZRangeWithScores(ctx, q.key("lease"), 0, -1)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, unavailable("list active tasks", err)
	}
	held := map[string]string{}
	for _, id := range active.Val() {
		held[id] = ""
	}
	for _, z := range leases.Val() {
		id, _ := z.Member.(string)
		held[id] = strconv.FormatFloat(z.Score, 'g', -1, 64)
	}
	return held, nil
}

// storedTask is a task's hash: both are "" for a hash that is missing, or is
// none.
type storedTask struct {
	message string
	state   string
}

func (q asynqQueue) task(ctx context.Context, id string) (storedTask, error) {
	values, err := q.redis.HMGet(ctx, q.key("t:"+id), "msg", "state").Result()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return storedTask{}, nil
	}
	if err != nil {
		return storedTask{}, unavailable("read task", err)
	}
	var t storedTask
	t.message, _ = values[0].(string)
	t.state, _ = values[1].(string)
	return t, nil
}

var (
	requeueScript    = script("requeue")
	quarantineScript = script("quarantine")
	ungroupScript    = script("ungroup")
	leaseScript      = script("lease")
)

// requeue puts a task back to the head of the queue. It reports false if
// somebody touched it since task and lease were read, or if it waits anyway.
func (q asynqQueue) requeue(ctx context.Context, id string, t storedTask, lease string) (bool, error) {
	n, err := requeueScript.Run(ctx, q.redis, q.keys("active", "lease", "archived", "pending", "t:"+id),
		id, t.state, lease, time.Now().UnixNano()).Int()
	if err != nil {
		return false, unavailable("requeue task", err)
	}
	return n == 1, nil
}

// quarantine deletes a task that cannot be read, unless somebody touched it.
func (q asynqQueue) quarantine(ctx context.Context, id string, t storedTask, lease string) (bool, error) {
	digest := ""
	if t.message != "" {
		sum := sha1.Sum([]byte(t.message)) //nolint:gosec // see the import
		digest = hex.EncodeToString(sum[:])
	}
	gone, err := quarantineScript.Run(ctx, q.redis, q.keys("t:"+id, "lease", "archived", "retry", "scheduled", "active", "pending"),
		id, digest, lease, q.key("unique:")).Bool()
	if err != nil {
		return false, unavailable("delete unreadable task", err)
	}
	return gone, nil
}

// overdue lists a few tasks that should have been forwarded from retry or
// scheduled for a while.
func (q asynqQueue) overdue(ctx context.Context, set string, since time.Time) ([]string, error) {
	ids, err := q.redis.ZRangeByScore(ctx, q.key(set), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(since.Unix(), 10), Count: 20,
	}).Result()
	if err != nil {
		return nil, unavailable("list overdue tasks", err)
	}
	return ids, nil
}

// archived lists a few tasks of the archive.
func (q asynqQueue) archived(ctx context.Context) ([]string, error) {
	ids, err := q.redis.ZRange(ctx, q.key("archived"), 0, 99).Result()
	if err != nil {
		return nil, unavailable("list archive", err)
	}
	return ids, nil
}

// ungroup puts tasks that wait to be grouped, which no worker of ours does,
// into the queue.
func (q asynqQueue) ungroup(ctx context.Context) error {
	groups, err := q.redis.SMembers(ctx, q.key("groups")).Result()
	if err != nil {
		return unavailable("list groups", err)
	}
	var failed error
	for _, group := range groups {
		if err := ungroupScript.Run(ctx, q.redis, q.keys("g:"+group, "groups", "pending"), group, q.key("t:")).Err(); err != nil {
			failed = errors.Join(failed, unavailable("release group", err))
		}
	}
	return failed
}
