package queue

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"
)

// Active lists the ids of the jobs that workers have in hand now, of all queues
// that producers have used.
func (c *Client) Active(ctx context.Context) ([]string, error) {
	queues, err := c.redis.SMembers(ctx, "asynq:queues").Result()
	if err != nil {
		return nil, unavailable("list queues", err)
	}
	var all []string
	for _, name := range queues {
		ids, err := c.redis.LRange(ctx, asynqQueue{name: name}.key("active"), 0, -1).Result()
		if err != nil {
			return nil, unavailable("list active tasks", err)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// Follow yields every change of any job's status from now on, until ctx ends.
// It waits for a Redis that is away; what happens meanwhile is missed. An error
// ends it: the user may not subscribe to all jobs.
func (c *Client) Follow(ctx context.Context) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		sub := c.redis.PSubscribe(ctx, eventsChannel("*"))
		defer func() { _ = sub.Close() }() // it ends with the connection
		for {
			_, err := sub.ReceiveTimeout(ctx, 5*time.Second)
			if err == nil {
				break
			}
			if redis.HasErrorPrefix(err, "NOPERM") {
				yield(Status{}, unavailable("subscribe to all jobs", err))
				return
			}
			select {
			case <-time.After(time.Second): // then it connects again
			case <-ctx.Done():
				return
			}
		}
		events := sub.Channel()
		for {
			select {
			case event, ok := <-events:
				var s Status
				switch {
				case !ok:
					return
				case json.Unmarshal([]byte(event.Payload), &s) != nil: // not a worker's
				case !yield(s, nil):
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
