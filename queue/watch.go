package queue

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"
)

// watchEvery is how often the status is read while one watches, in case a
// message was lost.
const watchEvery = 2 * time.Second

// Watch yields a job's status, now and at every change, until it has ended or
// ctx does. While Redis is away it waits, once it has answered; an error ends
// it.
func (c *Client) Watch(ctx context.Context, id string) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		// Subscribe first, so that no change falls between.
		sub := c.redis.Subscribe(ctx, eventsChannel(id))
		defer func() { _ = sub.Close() }() // it ends with the connection
		if _, err := sub.ReceiveTimeout(ctx, 5*time.Second); err != nil {
			yield(Status{}, unavailable("subscribe", err))
			return
		}
		events := sub.Channel()
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()

		last, err := c.Status(ctx, id)
		if !yield(last, err) || err != nil {
			return
		}
		for !last.State.Final() {
			var now Status
			var err error
			select {
			case event, ok := <-events:
				if !ok {
					return
				}
				err = json.Unmarshal([]byte(event.Payload), &now)
			case <-ticker.C:
				now, err = c.Status(ctx, id)
			case <-ctx.Done():
				yield(last, context.Cause(ctx))
				return
			}
			switch {
			case errors.Is(err, ErrUnknownJob):
				yield(last, err)
				return
			case err != nil || !now.follows(last):
				continue
			}
			last = now
			if !yield(last, nil) {
				return
			}
		}
	}
}
