package queue

import (
	"context"

	"github.com/imgus/worker/job"
)

// A job is cancelled by a durable mark, which is looked for before the job
// begins and every second while it runs; the message only makes it quicker.
// asynq's own cancel is a message alone, and ends no task (A9).

// marked reports whether the job has a cancel mark. While Redis is away it has
// none: the pulse finds it later.
func (c *Consumer) marked(work context.Context, id string) bool {
	ctx, cancel := patience(work)
	defer cancel()
	n, err := c.redis.Exists(ctx, cancelKey(id)).Result()
	return err == nil && n > 0
}

// listen ends work whose cancellation is announced, until ctx ends.
func (c *Consumer) listen(ctx context.Context) {
	sub := c.redis.Subscribe(ctx, cancelChannel)
	defer func() { _ = sub.Close() }() // it ends with the connection
	messages := sub.Channel()          // reconnects by itself
	for {
		select {
		case message, ok := <-messages:
			if !ok {
				return
			}
			c.slots.cancel(message.Payload, job.ErrCancelled)
		case <-ctx.Done():
			return
		}
	}
}

// findMarks ends the work on jobs in hand that have a cancel mark.
func (c *Consumer) findMarks(ctx context.Context) error {
	for _, id := range c.slots.jobs() {
		n, err := c.redis.Exists(ctx, cancelKey(id)).Result()
		if err != nil {
			return err
		}
		if n > 0 {
			c.slots.cancel(id, job.ErrCancelled)
		}
	}
	return nil
}
