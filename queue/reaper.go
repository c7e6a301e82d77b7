package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/imgus/worker/job"
)

const (
	reapEvery  = time.Second
	sweepEvery = 30 * time.Second
	// leaseQuiet is how long the lease of a task stands still before anybody
	// asks whether its worker lives: asynq moves it every five seconds.
	leaseQuiet = 8 * time.Second
	// orphanGrace is how long a task's hash may be left alone.
	orphanGrace = time.Minute
)

// reaper brings back what dead workers had in hand, and removes what nobody
// can read. Every worker has one; they agree through scripts that act only on
// what is as it was seen. It takes the place of asynq's recoverer, which comes
// once a minute for what is a minute old (A7), gives up at the first
// undecodable entry (A2), knows nothing of a task without a lease (A5), goes
// by the clocks of workers (A11) and archives a task, payload and all, that
// had no retries (A10).
//
// A task is dead if no worker's mark is on it and its lease has not moved for
// a while. Both the mark and the lease are renewed every five seconds by the
// worker that has it.
type reaper struct {
	queues  []asynqQueue
	owners  owners
	mine    func(id string) bool // in hand here
	away    func() bool          // Redis does not answer
	settled func() bool          // Redis has been there for long enough for every live worker to beat
	dropped func(queue string)
	back    func(queue string) // a job is
	// end tells whoever waits for a job that nobody can read; it is not deleted
	// before.
	end func(ctx context.Context, queue, id string) error
	log *slog.Logger

	quiet, grace, sweepEvery, strayEvery time.Duration

	found func(Leftover) // is told of all that is acted on; may be nil
	dry   bool           // nothing is acted on

	seen    sightings
	swept   time.Time
	strayed time.Time
	blind   bool // keys cannot be listed
}

func (c *Consumer) newReaper() *reaper {
	r := &reaper{
		owners:  c.owners,
		mine:    c.slots.has,
		away:    c.contact.lost,
		settled: func() bool { return c.contact.lasted(c.settling) },
		dropped: func(queue string) { c.observe(func(o Observer) { o.Dropped(queue) }) },
		back:    func(queue string) { c.observe(func(o Observer) { o.Recovered(queue) }) },
		end:     c.endUnreadable,
		log:     c.log,
		quiet:   leaseQuiet, grace: orphanGrace, sweepEvery: sweepEvery, strayEvery: strayEvery,
		seen: sightings{},
	}
	for name := range c.opts.Queues {
		r.queues = append(r.queues, asynqQueue{redis: c.redis, name: name})
	}
	return r
}

// run works until ctx ends.
func (r *reaper) run(ctx context.Context) {
	ticker := time.NewTicker(reapEvery)
	defer ticker.Stop()
	for {
		if !r.away() {
			if err := r.pass(ctx); err != nil && ctx.Err() == nil {
				r.log.Debug("not all tasks could be looked at", "error", err)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// pass looks at every queue. Trouble with one task does not keep it from the
// others.
func (r *reaper) pass(ctx context.Context) error {
	failed := r.look(ctx)
	if !r.settled() {
		return failed
	}
	suspects := r.seen.suspect(time.Now(), r.quiet, r.grace)
	sweep, stray := time.Since(r.swept) >= r.sweepEvery, time.Since(r.strayed) >= r.strayEvery
	for _, q := range r.queues {
		for task, seen := range suspects {
			if task.queue == q.name {
				failed = errors.Join(failed, r.examine(ctx, q, task, seen))
			}
		}
		if sweep {
			failed = errors.Join(failed, r.sweep(ctx, q))
		}
		if stray {
			failed = errors.Join(failed, r.strays(ctx, q))
		}
	}
	if sweep {
		r.swept = time.Now()
	}
	if stray {
		r.strayed = time.Now()
	}
	return failed
}

// look notes what is in workers' hands.
func (r *reaper) look(ctx context.Context) error {
	var failed error
	for _, q := range r.queues {
		held, err := q.held(ctx)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		r.seen.note(q.name, held, time.Now())
	}
	return failed
}

// examine deals with a task of which nothing was heard.
func (r *reaper) examine(ctx context.Context, q asynqQueue, task taskID, seen sighting) error {
	if r.mine(task.id) {
		return nil
	}
	if owned, err := r.owners.owned(ctx, task.id); err != nil || owned {
		return err
	}
	t, err := q.task(ctx, task.id)
	if err != nil {
		return err
	}
	if !seen.held {
		delete(r.seen, task)
		if t.state != "active" {
			return nil // it has ended, or waits
		}
	}
	return r.restore(ctx, q, task.id, t, seen.lease)
}

// sweep deals with what no worker ever has in hand.
func (r *reaper) sweep(ctx context.Context, q asynqQueue) error {
	failed := r.ungroup(ctx, q)
	archived, err := q.archived(ctx)
	failed = errors.Join(failed, err)
	for _, id := range archived {
		owned, err := r.owners.owned(ctx, id)
		if err == nil && !owned {
			err = r.restoreFrom(ctx, q, id, true)
		}
		failed = errors.Join(failed, err)
	}
	// asynq forwards what is due, unless it stumbles over it.
	for _, set := range []string{"retry", "scheduled"} {
		overdue, err := q.overdue(ctx, set, time.Now().Add(-r.grace))
		failed = errors.Join(failed, err)
		for _, id := range overdue {
			failed = errors.Join(failed, r.restoreFrom(ctx, q, id, false))
		}
	}
	return failed
}

// restoreFrom restores a task of a waiting set; one that can be read only if
// also says so.
func (r *reaper) restoreFrom(ctx context.Context, q asynqQueue, id string, also bool) error {
	t, err := q.task(ctx, id)
	if err != nil || !also && readable(t.message, q.name, id) == nil {
		return err
	}
	return r.restore(ctx, q, id, t, "")
}

func (r *reaper) ungroup(ctx context.Context, q asynqQueue) error {
	if r.dry {
		return nil // nothing is left over
	}
	return q.ungroup(ctx)
}

// restore puts a task back into its queue, or removes it if nobody can read
// it. A task that ends up here although its job has ended is begun again, and
// ends at the sight of the record.
func (r *reaper) restore(ctx context.Context, q asynqQueue, id string, t storedTask, lease string) error {
	log := r.log.With("queue", q.name)
	if job.ValidID(id) { // any other may hold anything
		log = log.With("job_id", id)
	}
	problem := readable(t.message, q.name, id)
	if r.dry {
		r.tell(q, id, problem, t)
		return nil
	}
	if problem != nil {
		if err := r.end(ctx, q.name, id); err != nil {
			return err
		}
		gone, err := q.quarantine(ctx, id, t, lease)
		if gone {
			log.Warn("dropped a task that cannot be read", "bytes", len(t.message))
			r.dropped(q.name)
			r.tell(q, id, problem, t)
		}
		return err
	}
	back, err := q.requeue(ctx, id, t, lease)
	if back {
		r.tell(q, id, nil, t)
		r.back(q.name)
		log.Warn("took back a job that no worker has", "was", t.state)
	}
	return err
}
