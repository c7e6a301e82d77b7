package queue

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

// KeepCancelledContexts takes the defence against A1 away.
func (c *Consumer) KeepCancelledContexts() { c.hook.keepCancelled = true }

// KeepLeases takes the defence against A5 at the end of a task away,
// KeepRecoverer lets asynq's recoverer do its work.
func (c *Consumer) KeepLeases()    { c.hook.keepLeases = true }
func (c *Consumer) KeepRecoverer() { c.hook.keepRecoverer = true }

// Hasten has the reaper act at once on what is dead, instead of after the times
// that a live worker may need to give a sign.
func (c *Consumer) Hasten() {
	c.settling, c.owners.ttl = 0, 2*time.Second
	c.reaper.quiet, c.reaper.grace, c.reaper.sweepEvery, c.reaper.strayEvery = 500*time.Millisecond, 2*time.Second, time.Second, time.Second
}

// DoNotReap takes the reaper away.
func (c *Consumer) DoNotReap() { c.settling = 1 << 62 }

// Impatient has the reaper act as soon as it has settled.
func (c *Consumer) Impatient() { c.reaper.quiet = 0 }

// SetClock replaces the worker's clock for its comparison with that of Redis.
func (c *Consumer) SetClock(now func() time.Time) { c.clock.now, c.clock.every = now, time.Second }

// Contact is whether Redis answers, and since when.
type Contact = contact

func (c *Contact) Note(answered bool) bool     { return c.note(answered) }
func (c *Contact) Lost() bool                  { return c.lost() }
func (c *Contact) Lasted(d time.Duration) bool { return c.lasted(d) }

// Sightings tell whether a task looks dead.
type Sightings = sightings

func (s Sightings) Note(queue string, held map[string]string, now time.Time) {
	s.note(queue, held, now)
}

func (s Sightings) Suspect(now time.Time, quiet, grace time.Duration) []string {
	var ids []string
	for task := range s.suspect(now, quiet, grace) {
		ids = append(ids, task.queue+"/"+task.id)
	}
	return ids
}

// Readable and Repaired look at asynq's messages.
func Readable(data, queue, id string) error      { return readable(data, queue, id) }
func Repaired(data, queue string) (string, bool) { return repaired(data, queue) }

// Requeue and Quarantine act on a task as it looked: its state, its message,
// its lease.
func Requeue(ctx context.Context, r redis.UniversalClient, queue, id, state, lease string) (bool, error) {
	return asynqQueue{redis: r, name: queue}.requeue(ctx, id, storedTask{state: state}, lease)
}

func Quarantine(ctx context.Context, r redis.UniversalClient, queue, id, message, lease string) (bool, error) {
	return asynqQueue{redis: r, name: queue}.quarantine(ctx, id, storedTask{message: message}, lease)
}

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
	err := d.read(seal.Keys{}, job.Limits{})
	return d.job, err
}

// Slots are the truth about what runs.
type Slots = slots

func NewSlots(n int) *Slots { return newSlots(n) }

func (s *Slots) Take(ctx context.Context, id string) (context.Context, error) { return s.take(ctx, id) }
func (s *Slots) Leave(id string)                                              { s.leave(id) }
func (s *Slots) Close()                                                       { s.close() }
func (s *Slots) Idle(ctx context.Context) error                               { return s.idle(ctx) }
