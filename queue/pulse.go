package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pulseEvery = time.Second
	// pulsePatience and pulseEvery are less than two seconds: so long after Redis
	// went the worker is not ready.
	pulsePatience = 800 * time.Millisecond
	beatEvery     = 5 * time.Second
	beatTTL       = 15 * time.Second
	workersTTL    = time.Minute
)

// Worker is a live worker's sign of life: the JSON at imgus:worker:<id>. It
// tells nothing of the content of jobs.
type Worker struct {
	ID        string         `json:"id"`
	Host      string         `json:"host"`
	PID       int            `json:"pid"`
	Version   string         `json:"version,omitempty"`
	Queues    map[string]int `json:"queues"`
	Slots     int            `json:"slots"`
	InHand    int            `json:"in_hand"`
	Jobs      []string       `json:"jobs,omitempty"` // the ids of those in hand
	Serving   bool           `json:"serving"`
	StartedAt time.Time      `json:"started_at"`
	UpdatedAt time.Time      `json:"updated_at"`
	About
}

// About is what a worker tells of itself beside its work.
type About struct {
	Devices []Device `json:"devices,omitempty"`
	// Models has the digest of each model's manifest by name: all workers of a
	// queue must serve the same.
	Models map[string]string `json:"models,omitempty"`
}

// Device is one of a worker's devices.
type Device struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Busy  int    `json:"busy"`
	Slots int    `json:"slots"`
	// Models are those in its memory.
	Models []string `json:"models,omitempty"`
}

// pulse looks at Redis every second, until ctx ends: does it answer, was a job
// cancelled; and gives the sign of life.
func (c *Consumer) pulse(ctx context.Context) {
	ticker := time.NewTicker(pulseEvery)
	defer ticker.Stop()
	var beaten time.Time
	for {
		err := c.look(ctx)
		if ctx.Err() != nil {
			break
		}
		c.noteRedis(err)
		if err == nil {
			c.sayUnsaid(ctx)
			c.clock.due(func() { c.checkClock(ctx) })
			if time.Since(beaten) >= beatEvery-pulseEvery/2 {
				beaten = time.Now()
				c.beat(ctx)
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
	c.unbeat(ctx)
}

func (c *Consumer) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pulsePatience)
	defer cancel()
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return err
	}
	return c.findMarks(ctx)
}

// contact is whether Redis answers, and since when.
type contact struct {
	mu    sync.Mutex
	away  bool
	since time.Time // of the first answer, or of the first after an outage
}

// note takes in an answer, or its absence, and reports whether that is news.
func (c *contact) note(answered bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	news := c.away == answered
	c.away = !answered
	if answered && (news || c.since.IsZero()) {
		c.since = time.Now()
	}
	return news
}

// unsettle begins anew to count how long Redis has answered.
func (c *contact) unsettle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
}

func (c *contact) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

// lasted reports whether Redis has answered for so long.
func (c *contact) lasted(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.away && !c.since.IsZero() && time.Since(c.since) >= d
}

// noteRedis says once that Redis is away, and once that it is back.
func (c *Consumer) noteRedis(err error) {
	if !c.contact.note(err == nil) {
		return
	}
	if err != nil {
		c.log.Warn("redis is away; waiting for it", "error", err)
	} else {
		c.log.Info("redis is back")
	}
	c.observe(func(o Observer) { o.Outage(err != nil) })
}

func (c *Consumer) beat(ctx context.Context) {
	host, _ := os.Hostname() // a worker without a name is one all the same
	now := time.Now().UTC()
	sign := Worker{
		ID: c.worker, Host: host, PID: os.Getpid(), Version: c.opts.Version, Queues: c.opts.Queues,
		Slots: c.opts.Concurrency, Jobs: c.slots.jobs(), Serving: c.serving.Load(), StartedAt: c.started, UpdatedAt: now,
	}
	sign.InHand = len(sign.Jobs)
	if c.opts.About != nil {
		sign.About = c.opts.About()
	}
	err := c.writeSign(ctx, sign)
	if err != nil {
		c.log.Debug("no sign of life", "error", fmt.Errorf("write worker: %w", err))
	}
	c.noteWrite(err)
	c.renewMarks(ctx)
}

// noteWrite says once that Redis answers and yet takes nothing, because it is
// full for instance, or a replica; and once that it does again.
func (c *Consumer) noteWrite(err error) {
	if err != nil && !replied(err) {
		return // it is away, as the pulse finds
	}
	var refusal *error
	if err != nil {
		refusal = &err
		c.contact.unsettle() // nobody's sign of life was taken, and nobody is dead for that
	}
	switch before := c.refusal.Swap(refusal); {
	case err != nil && before == nil:
		c.log.Warn("redis refuses to write", "error", err)
	case err == nil && before != nil:
		c.log.Info("redis takes writes again")
	}
}

// writeSign writes the sign of life, and where Client.Workers finds it.
func (c *Consumer) writeSign(ctx context.Context, sign Worker) error {
	data, err := json.Marshal(sign)
	if err != nil {
		return fmt.Errorf("encode worker: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = c.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, workerKey(c.worker), data, beatTTL)
		p.ZAdd(ctx, workersKey, redis.Z{Score: float64(sign.UpdatedAt.Unix()), Member: c.worker})
		p.ZRemRangeByScore(ctx, workersKey, "-inf", strconv.FormatInt(sign.UpdatedAt.Add(-workersTTL).Unix(), 10))
		p.Expire(ctx, workersKey, workersTTL)
		return nil
	})
	return err
}

// renewMarks keeps the mark on each job in hand.
func (c *Consumer) renewMarks(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, id := range c.slots.jobs() {
		mine, err := c.owners.claim(ctx, id)
		switch {
		case err != nil:
			c.log.Debug("mark not renewed", "job_id", id, "error", err)
		case !mine:
			// Cut off from Redis for a while, this worker was taken for dead.
			// Whoever is first to commit the job has made it.
			c.log.Warn("another worker has taken over the job", "job_id", id)
		case !c.slots.has(id):
			_ = c.owners.release(ctx, id) // it ended this moment; the mark expires anyway
		}
	}
}

func (c *Consumer) unbeat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = c.redis.Del(ctx, workerKey(c.worker)).Err() // it expires anyway
	_ = c.redis.ZRem(ctx, workersKey, c.worker).Err()
}
