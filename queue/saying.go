package queue

import (
	"context"
	"sync"
)

// unsaid holds final statuses that could not be written while Redis was away.
// Who watches a job must learn of its end.
type unsaid struct {
	mu   sync.Mutex
	list []Status
}

// say publishes a status; that it fails is no failure of the job.
func (c *Consumer) say(work context.Context, status Status) {
	ctx, cancel := patience(work)
	defer cancel()
	if _, err := c.statuses.put(ctx, status); err != nil {
		c.log.Debug("status not written", "job_id", status.ID, "state", status.State, "error", err)
	}
}

// sayLast publishes a final status, later if it must be.
func (c *Consumer) sayLast(work context.Context, status Status) {
	ctx, cancel := patience(work)
	defer cancel()
	if _, err := c.statuses.put(ctx, status); err != nil {
		c.log.Debug("final status kept for later", "job_id", status.ID, "error", err)
		c.unsaid.mu.Lock()
		defer c.unsaid.mu.Unlock()
		c.unsaid.list = append(c.unsaid.list, status)
	}
}

// sayUnsaid tries again what sayLast kept.
func (c *Consumer) sayUnsaid(ctx context.Context) {
	c.unsaid.mu.Lock()
	defer c.unsaid.mu.Unlock()
	for len(c.unsaid.list) > 0 {
		ctx, cancel := patience(ctx)
		_, err := c.statuses.put(ctx, c.unsaid.list[0])
		cancel()
		if err != nil {
			return
		}
		c.unsaid.list = c.unsaid.list[1:]
	}
}
