package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/imgus/worker/job"
)

// Leftover is an entry of a queue that no worker has or can read.
type Leftover struct {
	Queue string
	ID    string // "" if it is no job's
	// Unreadable: nobody can tell what it was; it is deleted. Any other goes
	// back to the head of its queue.
	Unreadable bool
	Size       int64 // bytes
}

func (r *reaper) tell(q asynqQueue, id string, problem error, t storedTask) {
	if r.found == nil {
		return
	}
	if !job.ValidID(id) {
		id = "" // any other may hold anything
	}
	r.found(Leftover{Queue: q.name, ID: id, Unreadable: problem != nil, Size: int64(len(t.message))})
}

var (
	errWaits  = errors.New("somebody waits for a job that cannot be read; a worker will end it")
	errNotNow = errors.New("the job cannot be ended while none is taken")
)

// leaveToWorkers keeps what a worker alone can end, with a record.
func (c *Client) leaveToWorkers(ctx context.Context, _, id string) error {
	if awaited, err := c.statuses.awaited(ctx, id); err != nil || !awaited {
		return err
	}
	return errWaits
}

// endUnreadable ends a job of which only the id can be read, if anybody knows of
// it.
func (c *Consumer) endUnreadable(ctx context.Context, queue, id string) error {
	if !c.gate() {
		return errNotNow
	}
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	if awaited, err := c.statuses.awaited(ctx, id); err != nil || !awaited {
		return err
	}
	attempt, _, err := c.attempts.begin(ctx, id)
	if err != nil {
		return err
	}
	d := &delivery{queue: queue, id: id, job: &job.Job{Version: job.Version, ID: id}, attempt: attempt, began: time.Now()}
	v := c.refuse(ctx, d, job.Errorf(job.InvalidJob, "the job's entry in the queue was damaged; enqueue it again under another id"))
	if v.action != finish {
		return v.reason
	}
	c.settle(ctx, d, v)
	return nil
}

// Sweep does once what every worker does all the time for the queues it serves:
// it finds what crashes left in them and, unless dry, puts it right. If tasks are
// in workers' hands it takes some seconds, to see which of them are alive.
func (c *Client) Sweep(ctx context.Context, queues []string, dry bool, found func(Leftover)) error {
	r := &reaper{
		owners: owners{redis: c.redis}, log: slog.New(slog.DiscardHandler),
		mine: func(string) bool { return false }, settled: func() bool { return true }, dropped: func(string) {}, back: func(string) {},
		end:   c.leaveToWorkers,
		quiet: leaseQuiet, grace: orphanGrace,
		found: found, dry: dry,
		seen: sightings{},
	}
	for _, name := range queues {
		r.queues = append(r.queues, asynqQueue{redis: c.redis, name: name})
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	if len(r.seen) > 0 {
		select {
		case <-time.After(leaseQuiet):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return r.pass(ctx)
}
