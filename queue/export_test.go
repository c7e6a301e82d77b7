package queue

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
)

// KeepCancelledContexts takes the defence against A1 away.
func (c *Consumer) KeepCancelledContexts() { c.hook.keepCancelled = true }

// PutStatus writes a status as the given attempt does.
func PutStatus(ctx context.Context, r redis.UniversalClient, s Status) (bool, error) {
	return statuses{redis: r, ttl: DefaultStatusTTL}.put(ctx, s)
}

// Begin and Uncount count attempts.
func Begin(ctx context.Context, r redis.UniversalClient, id string) (job.Attempt, int, error) {
	return attempts{redis: r}.begin(ctx, id)
}

func Uncount(ctx context.Context, r redis.UniversalClient, id string, a job.Attempt) error {
	return attempts{redis: r}.uncount(ctx, id, a)
}

// Progress is the publisher of progress.
type Progress = progress

func StartProgress(publish func(job.Progress)) *Progress { return startProgress(publish) }
func (p *Progress) Report(now job.Progress)              { p.report(now) }
func (p *Progress) Close()                               { p.close() }

// HoldOff is what keeps a worker from taking jobs after trouble.
type HoldOff = holdOff

func (h *HoldOff) Trouble()   { h.trouble() }
func (h *HoldOff) Fine()      { h.fine() }
func (h *HoldOff) Over() bool { return h.over() }

// Open connects, to look at Redis from outside.
func (c Connection) Open() (redis.UniversalClient, error) {
	clients, err := c.open(1)
	if err != nil {
		return nil, err
	}
	return clients[0], nil
}

// Read decodes a payload as the consumer does.
func Read(id string, payload []byte) (*job.Job, error) {
	d := &delivery{id: id, payload: payload}
	err := d.read(job.Limits{})
	return d.job, err
}

// Slots are the truth about what runs.
type Slots = slots

func NewSlots(n int) *Slots { return newSlots(n) }

func (s *Slots) Take(ctx context.Context, id string) (context.Context, error) { return s.take(ctx, id) }
func (s *Slots) Leave(id string)                                              { s.leave(id) }
func (s *Slots) Close()                                                       { s.close() }
func (s *Slots) Idle(ctx context.Context) error                               { return s.idle(ctx) }
