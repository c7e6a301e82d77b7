package queue

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	clockEvery = time.Minute
	// maxSkew is how far the worker's clock may be from that of Redis. asynq
	// writes times of the worker's clock into leases and schedules, which other
	// workers compare with theirs (A11).
	maxSkew = 5 * time.Second
)

// clock compares the worker's time with that of Redis.
type clock struct {
	now   func() time.Time
	every time.Duration
	wrong atomic.Bool // too far from that of Redis: no job is taken
	next  time.Time   // when to compare again
}

// due calls check when it is time to: every second while the clock is wrong.
func (c *clock) due(check func()) {
	if c.wrong.Load() || !time.Now().Before(c.next) {
		check()
	}
}

// checkClock says once that the clock is wrong, and once that it is right.
func (c *Consumer) checkClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	c.clock.next = time.Now().Add(c.clock.every)
	skew, err := clockSkew(ctx, c.redis, c.clock.now)
	if err != nil {
		c.log.Debug("clock not compared", "error", err) // Redis is away, or does not allow it
		return
	}
	wrong := skew.Abs() > maxSkew
	switch was := c.clock.wrong.Swap(wrong); {
	case wrong && !was:
		c.log.Error("this machine's clock differs from that of redis; taking no jobs until it is right", "ahead_ms", skew.Milliseconds())
	case was && !wrong:
		c.log.Info("the clock is right again")
	}
}

// clockSkew is how far our time is ahead of that of Redis.
func clockSkew(ctx context.Context, r redis.UniversalClient, now func() time.Time) (time.Duration, error) {
	asked := now()
	theirs, err := r.Time(ctx).Result()
	if err != nil {
		return 0, unavailable("ask for the time", err)
	}
	answered := now()
	return asked.Add(answered.Sub(asked) / 2).Sub(theirs), nil
}
