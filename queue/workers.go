package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Workers lists the workers that live, by host and age.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	ids, err := c.redis.ZRange(ctx, workersKey, 0, -1).Result()
	if err != nil {
		return nil, unavailable("list workers", err)
	}
	var workers []Worker
	for _, id := range ids {
		sign, err := c.redis.Get(ctx, workerKey(id)).Bytes()
		if errors.Is(err, redis.Nil) {
			continue // it has died since
		}
		if err != nil {
			return nil, unavailable("read worker", err)
		}
		var w Worker
		if json.Unmarshal(sign, &w) == nil { // else another version's
			workers = append(workers, w)
		}
	}
	slices.SortFunc(workers, func(a, b Worker) int {
		return cmp.Or(strings.Compare(a.Host, b.Host), a.StartedAt.Compare(b.StartedAt), strings.Compare(a.ID, b.ID))
	})
	return workers, nil
}
