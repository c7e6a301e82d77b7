package queue

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
)

// attempts counts the tries at each job across all workers. asynq has a count
// too, but archives whatever reaches its end, and spends it on shutdowns.
//
// An attempt counts from its beginning, so that a job that kills the worker is
// seen; what was not the job's fault is taken back afterwards. The number of
// an attempt only grows, which orders what attempts say.
type attempts struct {
	redis redis.UniversalClient
}

var (
	beginScript   = script("begin")
	uncountScript = script("uncount")
)

// begin starts an attempt and tells how many count against the job, this one
// included.
func (a attempts) begin(ctx context.Context, id string) (job.Attempt, int, error) {
	attempt := job.Attempt{ID: uuid.Must(uuid.NewV7()).String()}
	n, err := beginScript.Run(ctx, a.redis, []string{attemptsKey(id)}, attempt.ID, int(attemptsTTL.Seconds())).Int64Slice()
	if err != nil {
		return attempt, 0, unavailable("begin attempt", err)
	}
	if len(n) != 2 {
		return attempt, 0, fmt.Errorf("begin attempt: the script answered %d numbers", len(n))
	}
	attempt.Number = int(n[0])
	return attempt, int(n[1]), nil
}

// uncount takes the attempt back.
func (a attempts) uncount(ctx context.Context, id string, attempt job.Attempt) error {
	if err := uncountScript.Run(ctx, a.redis, []string{attemptsKey(id)}, attempt.ID).Err(); err != nil {
		return unavailable("uncount attempt", err)
	}
	return nil
}

// forget is for a job that has ended.
func (a attempts) forget(ctx context.Context, id string) error {
	if err := a.redis.Del(ctx, attemptsKey(id)).Err(); err != nil {
		return unavailable("forget attempts", err)
	}
	return nil
}
