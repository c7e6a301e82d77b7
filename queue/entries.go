package queue

import (
	"context"
	"iter"
	"maps"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

// Entry is a job in a queue.
type Entry struct {
	Queue string
	// Job is the job as far as it can be read; its ID is valid.
	Job *job.Job
	// Unreadable: nobody can tell whose it is.
	Unreadable bool
	// Key is the id of the key that it is sealed with, "" for none.
	Key string
	// Active: a worker took it and has not given it back.
	Active bool
	// Waits: it is to be tried again later.
	Waits bool
}

var (
	entriesScript = script("entries")
	forgetScript  = script("forget")
)

// Entries yields every job in every queue, whatever its state. What moves from
// one queue to another meanwhile, which no worker does, can be missed. After an
// error the sequence ends.
func (c *Client) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		queues, err := c.queues()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, q := range queues {
			ids, err := q.entries(ctx)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for id := range ids {
				entry, found, err := c.entry(ctx, q, id)
				if err != nil || found {
					if !yield(entry, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

func (c *Client) queues() ([]asynqQueue, error) {
	names, err := c.inspector.Queues()
	if err != nil {
		return nil, unavailable("list queues", err)
	}
	queues := make([]asynqQueue, len(names))
	for i, name := range names {
		queues[i] = asynqQueue{redis: c.redis, name: name}
	}
	return queues, nil
}

// entries are the ids of all tasks, some of which may be no job's.
func (q asynqQueue) entries(ctx context.Context) (map[string]bool, error) {
	if err := q.ungroup(ctx); err != nil {
		return nil, err
	}
	ids, err := q.standing(ctx)
	maps.DeleteFunc(ids, func(id string, _ bool) bool { return !job.ValidID(id) })
	return ids, err
}

// entry reads a job; it is not found if it has left the queue.
func (c *Client) entry(ctx context.Context, q asynqQueue, id string) (Entry, bool, error) {
	t, err := q.task(ctx, id)
	if err != nil || t.message == "" {
		return Entry{}, false, err
	}
	e := Entry{Queue: q.name, Job: &job.Job{ID: id}, Active: t.state == "active", Waits: t.state == "retry", Unreadable: true}
	m, err := decodeMessage(t.message)
	if err != nil {
		return e, true, nil //nolint:nilerr // that it cannot be read is the answer
	}
	payload := m.field("payload").Bytes()
	e.Key = seal.KeyOf(payload)
	j, whole, _ := c.decode(payload, q.name, id)
	if whole && j.Kind != "" { // every job has one; without, it is none, or hides what it is
		e.Job, e.Unreadable = j, false
	}
	return e, true, nil
}

// Stop ends the work on a job if a worker has it, and reports whether one has.
func (c *Client) Stop(ctx context.Context, id string) (bool, error) {
	owned, err := owners{redis: c.redis}.owned(ctx, id)
	if err != nil || !owned {
		return false, err
	}
	return true, c.markCancelled(ctx, id)
}

// Forget deletes every trace of a job in Redis, but for a worker's mark on it,
// which expires. It reports whether there was a task. Of a job that a worker has
// just ended it lets asynq take note first.
func (c *Client) Forget(ctx context.Context, id string) (found bool, err error) {
	queues, err := c.queues()
	if err != nil {
		return false, err
	}
	for _, q := range queues {
		if err := q.settled(ctx, id); err != nil {
			return found, err
		}
		keys := append([]string{q.key("t:" + id)}, q.keys("pending", "active", "scheduled", "retry", "archived", "completed", "lease")...)
		gone, err := forgetScript.Run(ctx, q.redis, keys, id, q.key("unique:")).Bool()
		if err != nil {
			return found, unavailable("forget task", err)
		}
		found = found || gone
	}
	for _, key := range []string{jobKey(id), attemptsKey(id), cancelKey(id)} {
		if err := c.redis.Del(ctx, key).Err(); err != nil {
			return found, unavailable("forget job", err)
		}
	}
	return found, nil
}

// settled waits a little while the task is active: asynq would complain of one
// that it cannot find.
func (q asynqQueue) settled(ctx context.Context, id string) error {
	const patience, pause = 2 * time.Second, 50 * time.Millisecond
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		t, err := q.task(ctx, id)
		if err != nil || t.state != "active" {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// GoOn lets a job that waits to be tried again be tried now. Where that fails it
// waits its time.
func (c *Client) GoOn(e Entry) {
	_ = c.inspector.RunTask(e.Queue, e.Job.ID)
}
