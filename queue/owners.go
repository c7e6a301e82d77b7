package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// owners marks each job in hand as its worker's: imgus:owner:<id>. Every beat
// renews the marks, so a mark that has expired says that the worker is dead;
// while it stands no other worker begins the job, whatever asynq delivers.
type owners struct {
	redis  redis.UniversalClient
	worker string
	ttl    time.Duration
}

// errOwned: asynq delivered a job that another live worker has.
var errOwned = errors.New("another worker has the job")

var (
	claimScript   = script("claim")
	releaseScript = script("release")
)

// claim marks the job as this worker's, or renews the mark; false if it is
// another's.
func (o owners) claim(ctx context.Context, id string) (bool, error) {
	mine, err := claimScript.Run(ctx, o.redis, []string{ownerKey(id)}, o.worker, o.ttl.Milliseconds()).Bool()
	if err != nil {
		return false, unavailable("claim job", err)
	}
	return mine, nil
}

// release takes the mark away, if it is this worker's.
func (o owners) release(ctx context.Context, id string) error {
	if err := releaseScript.Run(ctx, o.redis, []string{ownerKey(id)}, o.worker).Err(); err != nil {
		return unavailable("release job", err)
	}
	return nil
}

// owned reports whether any live worker has the job.
func (o owners) owned(ctx context.Context, id string) (bool, error) {
	n, err := o.redis.Exists(ctx, ownerKey(id)).Result()
	if err != nil {
		return false, unavailable("look for the owner", err)
	}
	return n > 0, nil
}
