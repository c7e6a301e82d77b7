package queue

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Depth is how full a queue is.
type Depth struct {
	Queue   string `json:"queue"`
	Pending int64  `json:"pending"`
	Active  int64  `json:"active"`
	// Waiting are those with a time before which they are not tried: after a
	// trouble, or because their producer said so.
	Waiting int64 `json:"waiting"`
	// Oldest is how long the job that comes next has been pending.
	Oldest time.Duration `json:"-"`
}

// Depths tells how full queues are, by name; without names, all that producers
// have used.
func (c *Client) Depths(ctx context.Context, names ...string) ([]Depth, error) {
	if len(names) == 0 {
		var err error
		if names, err = c.redis.SMembers(ctx, "asynq:queues").Result(); err != nil {
			return nil, unavailable("list queues", err)
		}
	}
	return depths(ctx, c.redis, names)
}

// Depths tells how full the consumer's own queues are.
func (c *Consumer) Depths(ctx context.Context) ([]Depth, error) {
	return depths(ctx, c.redis, slices.Collect(maps.Keys(c.opts.Queues)))
}

func depths(ctx context.Context, r redis.UniversalClient, names []string) ([]Depth, error) {
	depths := make([]Depth, 0, len(names))
	for _, name := range names {
		d, err := asynqQueue{redis: r, name: name}.depth(ctx)
		if err != nil {
			return nil, err
		}
		depths = append(depths, d)
	}
	slices.SortFunc(depths, func(a, b Depth) int { return cmp.Or(strings.Compare(a.Queue, b.Queue)) })
	return depths, nil
}

func (q asynqQueue) depth(ctx context.Context) (Depth, error) {
	pipe := q.redis.Pipeline()
	pending, active := pipe.LLen(ctx, q.key("pending")), pipe.LLen(ctx, q.key("active"))
	retry, scheduled := pipe.ZCard(ctx, q.key("retry")), pipe.ZCard(ctx, q.key("scheduled"))
	next := pipe.LRange(ctx, q.key("pending"), -1, -1) // tasks are taken from the right
	if _, err := pipe.Exec(ctx); err != nil {
		return Depth{}, unavailable("measure queue", err)
	}
	d := Depth{Queue: q.name, Pending: pending.Val(), Active: active.Val(), Waiting: retry.Val() + scheduled.Val()}
	if ids := next.Val(); len(ids) == 1 {
		since, err := q.redis.HGet(ctx, q.key("t:"+ids[0]), "pending_since").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return Depth{}, unavailable("measure queue", err)
		}
		if nanoseconds, err := strconv.ParseInt(since, 10, 64); err == nil {
			d.Oldest = max(time.Since(time.Unix(0, nanoseconds)), 0)
		}
	}
	return d, nil
}
