package queue

import (
	"context"
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

// Sweep does once what every worker does all the time for the queues it serves:
// it finds what crashes left in them and, unless dry, puts it right. If tasks are
// in workers' hands it takes some seconds, to see which of them are alive.
func (c *Client) Sweep(ctx context.Context, queues []string, dry bool, found func(Leftover)) error {
	r := &reaper{
		owners: owners{redis: c.redis}, log: slog.New(slog.DiscardHandler),
		mine: func(string) bool { return false }, settled: func() bool { return true }, dropped: func(string) {},
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
