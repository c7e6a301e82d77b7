package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
)

// strayEvery is how often the keys of Redis are gone through.
const strayEvery = 10 * time.Minute

var adoptScript = script("adopt")

// strays brings back tasks that stand in no list of their queue: the list was
// evicted, or lost with a master that failed (A5). Only the keys themselves tell
// of them. Where Redis does not let this user list keys, nothing is done.
func (r *reaper) strays(ctx context.Context, q asynqQueue) error {
	standing, err := q.standing(ctx)
	if err != nil {
		return err
	}
	var lost []string
	for ids, err := range q.scan(ctx) {
		if redis.HasErrorPrefix(err, "NOPERM") {
			if !r.blind {
				r.blind = true
				r.log.Info("tasks that stand in no list are not looked for: Redis does not let this user list keys (+scan)")
			}
			return nil
		}
		if err != nil {
			return unavailable("list tasks", err)
		}
		for _, id := range ids {
			if !standing[id] && !r.mine(id) {
				lost = append(lost, id)
			}
		}
	}
	const batch = 200
	var failed error
	for len(lost) > 0 {
		n := min(batch, len(lost))
		failed = errors.Join(failed, r.adopt(ctx, q, lost[:n]))
		lost = lost[n:]
	}
	return failed
}

// adopt puts tasks back into the queue, or removes them if nobody can read them.
func (r *reaper) adopt(ctx context.Context, q asynqQueue, ids []string) error {
	var failed error
	readables := map[string]storedTask{}
	keys, args := q.keys("pending", "active", "lease", "scheduled", "retry", "archived", "completed"), []any{time.Now().UnixNano()}
	for _, id := range ids {
		owned, err := r.owners.owned(ctx, id)
		if err != nil || owned {
			failed = errors.Join(failed, err)
			continue
		}
		t, err := q.task(ctx, id)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case readable(t.message, q.name, id) != nil:
			failed = errors.Join(failed, r.restore(ctx, q, id, t, ""))
		case r.dry:
			r.tell(q, id, nil, t)
		default:
			readables[id] = t
			keys, args = append(keys, q.key("t:"+id)), append(args, id)
		}
	}
	if len(readables) == 0 {
		return failed
	}
	back, err := adoptScript.Run(ctx, q.redis, keys, args...).StringSlice()
	if err != nil {
		return errors.Join(failed, unavailable("put stray tasks back", err))
	}
	for _, id := range back {
		r.tell(q, id, nil, readables[id])
		r.back(q.name)
		log := r.log.With("queue", q.name)
		if job.ValidID(id) { // any other may hold anything
			log = log.With("job_id", id)
		}
		log.Warn("took back a job that stood in no list", "was", readables[id].state)
	}
	return failed
}

// standing are the ids in the lists of the queue.
func (q asynqQueue) standing(ctx context.Context) (map[string]bool, error) {
	list, err := entriesScript.Run(ctx, q.redis, q.keys("pending", "active", "scheduled", "retry", "archived", "completed", "lease")).StringSlice()
	if err != nil {
		return nil, unavailable("list tasks", err)
	}
	ids := make(map[string]bool, len(list))
	for _, id := range list {
		ids[id] = true
	}
	return ids, nil
}

// scan yields the ids of the queue's tasks by their keys, some at a time.
func (q asynqQueue) scan(ctx context.Context) func(yield func([]string, error) bool) {
	return func(yield func([]string, error) bool) {
		var node redis.Cmdable = q.redis
		if cluster, ok := q.redis.(*redis.ClusterClient); ok { // a queue's keys are on one node
			master, err := cluster.MasterForKey(ctx, q.key("pending"))
			if err != nil {
				yield(nil, fmt.Errorf("find node: %w", err))
				return
			}
			node = master
		}
		const some = 500
		prefix := q.key("t:")
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, prefix+"*", some).Result()
			if err != nil {
				yield(nil, err)
				return
			}
			for i, key := range keys {
				keys[i] = strings.TrimPrefix(key, prefix)
			}
			if cursor = next; !yield(keys, nil) || cursor == 0 {
				return
			}
		}
	}
}
