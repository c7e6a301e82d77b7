package queue_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// A11: a worker whose clock differs from that of Redis is not ready and takes
// nothing, until the clock is right; it says so once.
func TestWrongClock(t *testing.T) {
	for name, wrong := range map[string]time.Duration{"ahead": 5 * time.Minute, "behind": -5 * time.Minute, "a little": 6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			servers(t, func(t *testing.T, at queue.Connection) {
				c, r, h, log := client(t, at), inspect(t, at), newHandler(done), &logged{}
				var skew atomic.Int64
				skew.Store(int64(wrong))
				opts := options(at, h)
				opts.Log = log.logger()
				w := start(t, opts, func(c *queue.Consumer) {
					c.SetClock(func() time.Time { return time.Now().Add(time.Duration(skew.Load())) })
				})
				enqueue(t, c, "a")
				eventually(t, "the worker to serve", func() bool { return strings.Contains(log.String(), "taking jobs") })
				time.Sleep(2500 * time.Millisecond)
				if n, _ := h.seen("a"); len(n) != 0 || w.Ready() {
					t.Errorf("tried %d times, ready: %v", len(n), w.Ready())
				}
				skew.Store(int64(4 * time.Second)) // near enough
				waitState(t, c, "a", job.Done)
				if !w.Ready() {
					t.Error("not ready although the clock is right")
				}
				skew.Store(int64(-wrong)) // it can also go wrong later
				eventually(t, "the clock to be compared again", func() bool { return !w.Ready() })
				w.stop()
				if n := strings.Count(log.String(), "clock differs"); n != 2 {
					t.Errorf("said %d times", n)
				}
				checkResidue(t, r)
			})
		})
	}
}
