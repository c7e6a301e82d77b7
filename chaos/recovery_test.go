package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

// robbery is a job that was in the hands of a worker that was killed.
type robbery struct {
	id    string
	queue string
	begun string // attempts
	at    time.Time
	back  time.Duration // until it was in its queue again, begun again, or ended; 0 if that was not seen
}

// robberies are followed from the kill on.
type robberies struct {
	mu   sync.Mutex
	list []*robbery
}

// rob notes what the worker has in hand, as far as Redis tells. It is about to
// be killed.
func (c *chaos) rob(w *worker) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	signs, _ := c.redis.Keys(ctx, "imgus:worker:*").Result()
	name := ""
	for _, key := range signs {
		var sign queue.Worker
		text, _ := c.redis.Get(ctx, key).Bytes()
		if json.Unmarshal(text, &sign) == nil && sign.PID == w.pid {
			name = sign.ID
		}
	}
	marks, _ := c.redis.Keys(ctx, "imgus:owner:*").Result()
	for _, key := range marks {
		if owner, err := c.redis.Get(ctx, key).Result(); err != nil || owner != name {
			continue
		}
		r := &robbery{id: strings.TrimPrefix(key, "imgus:owner:"), at: time.Now()}
		r.queue, _ = c.redis.HGet(ctx, "imgus:job:"+r.id, "queue").Result()
		r.begun, _ = c.redis.HGet(ctx, "imgus:attempts:"+r.id, "begun").Result()
		if r.queue == "" || r.begun == "" {
			continue // it ended this moment
		}
		c.robbed.mu.Lock()
		c.robbed.list = append(c.robbed.list, r)
		c.robbed.mu.Unlock()
	}
}

// follow sees when robbed jobs come back, until ctx ends.
func (c *chaos) follow(ctx context.Context) {
	for ctx.Err() == nil {
		c.robbed.mu.Lock()
		list := slices.DeleteFunc(slices.Clone(c.robbed.list), func(r *robbery) bool { return r.back != 0 })
		c.robbed.mu.Unlock()
		for _, r := range list {
			if c.isBack(ctx, r) {
				r.back = time.Since(r.at)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *chaos) isBack(ctx context.Context, r *robbery) bool {
	pipe := c.redis.Pipeline()
	state := pipe.HGet(ctx, "asynq:{"+r.queue+"}:t:"+r.id, "state")
	begun := pipe.HGet(ctx, "imgus:attempts:"+r.id, "begun")
	_, _ = pipe.Exec(ctx) // an answer each
	if bad(state.Err()) || bad(begun.Err()) {
		return false // Redis is away
	}
	return state.Val() != "active" || begun.Val() != r.begun
}

func bad(err error) bool { return err != nil && err != redis.Nil } //nolint:errorlint // go-redis gives it as it is

// tell says what happened, and how long killed workers' jobs waited. Who is not
// heard while Redis is away is not dead, so its last return counts as the
// beginning too.
func (c *chaos) tell() {
	c.t.Helper()
	var calm, since, back, ended []time.Duration
	unseen := 0
	for _, r := range c.robbed.list {
		if r.back == 0 {
			unseen++
			continue
		}
		back = append(back, r.back)
		returned := c.lastReturn(r.at.Add(r.back))
		if returned.Before(r.at) {
			calm = append(calm, r.back)
			returned = r.at
		}
		since = append(since, r.at.Add(r.back).Sub(returned))
		data, err := c.bucket.Get(c.t.Context(), storage.RecordKey(r.id), storage.MaxRecord)
		if err != nil {
			continue // the auditor said so
		}
		record, err := job.DecodeRecord(data)
		if err == nil && record.CreatedAt != nil && record.CreatedAt.After(r.at) {
			ended = append(ended, record.CreatedAt.Sub(r.at))
		}
	}
	c.t.Logf(`strikes %v, redis restarts %d, storage faults %d
jobs of killed workers until another could take them
  since the kill, with no restart of redis between  %s
  since the kill or the last restart of redis       %s
  since the kill                                    %s
and until their record, behind others of the queue  %s`,
		c.strikes, len(c.restarts), c.store.Faults(), quantiles(calm), quantiles(since), quantiles(back), quantiles(ended))
	if unseen > 0 {
		c.t.Errorf("%d jobs of killed workers were never seen to come back", unseen)
	}
}

// lastReturn is when Redis was last there again before the given time.
func (c *chaos) lastReturn(before time.Time) (last time.Time) {
	for _, at := range c.restarts {
		if at.Before(before) {
			last = at
		}
	}
	return last
}

func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(q float64) time.Duration {
		return d[max(0, int(math.Ceil(q*float64(len(d))))-1)].Round(100 * time.Millisecond)
	}
	return fmt.Sprintf("%d jobs: median %s, 99th percentile %s, longest %s", len(d), at(0.5), at(0.99), at(1))
}
