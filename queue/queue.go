// Package queue brings jobs from Redis to the worker and their status back. It
// fences asynq, whose at-least-once delivery it keeps and whose known defects
// it works around, each where a comment names it.
//
// # Keys
//
// Beside asynq's own keys, all in Redis, each of which expires:
//
//	imgus:job:<id>       hash, the status of a job; changes are published on imgus:events:<id>
//	imgus:attempts:<id>  hash, how often the job was begun and how many of those count
//	imgus:cancel:<id>    mark, the user cancelled the job; published on imgus:cancel
//	imgus:owner:<id>     mark, the worker that has the job in hand
//	imgus:worker:<id>    JSON, a live worker's sign of life
//	imgus:workers        sorted set, the ids of live workers by their last sign
//
// Every script of ours touches one of these, or keys of one queue of asynq's,
// so Redis Cluster may put them anywhere.
//
// # Access
//
// The least that a worker's Redis user needs (on a Cluster also +cluster|slots
// +command). What a worker leaves behind is found through asynq's lists, and
// through what the others have seen in its hands; +scan, which shows the names of
// all keys, is for tasks whose list was evicted or lost in a failover. Without
// +info nothing is said of unfit settings, without +time nothing of the clock;
// +psubscribe is for worker top.
//
//	resetkeys ~asynq:* ~imgus:* resetchannels &asynq:cancel &imgus:cancel &imgus:events:*
//	-@all +hello +auth +ping +select +info +time +evalsha +eval +publish +scan
//	+subscribe +unsubscribe +psubscribe +punsubscribe
//	+exists +get +set +setex +del +incr +expire +expireat
//	+hset +hget +hmget +hgetall +hdel +hincrby +sadd +srem +sismember +smembers
//	+zadd +zrem +zcard +zscore +zrange +zrangebyscore +zremrangebyscore
//	+lpush +rpush +lrem +lrange +llen +rpoplpush
package queue

import (
	"embed"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

var (
	// ErrUnknownJob: neither a status nor a task has the id.
	ErrUnknownJob = errors.New("no such job")
	// ErrFinished: the job has already ended.
	ErrFinished = errors.New("the job has already ended")
	// ErrQueueName: no queue can have the name.
	ErrQueueName = errors.New("the name of a queue has a-z, 0-9, _ and - only")
	// ErrUnavailable: Redis cannot be reached, or refuses.
	ErrUnavailable = errors.New("redis is unavailable")
)

const (
	cancelChannel = "imgus:cancel"
	cancelTTL     = 7 * 24 * time.Hour
	attemptsTTL   = 7 * 24 * time.Hour

	// DefaultStatusTTL is how long a status is kept after its last change.
	DefaultStatusTTL = 24 * time.Hour
)

func jobKey(id string) string        { return "imgus:job:" + id }
func eventsChannel(id string) string { return "imgus:events:" + id }
func attemptsKey(id string) string   { return "imgus:attempts:" + id }
func cancelKey(id string) string     { return "imgus:cancel:" + id }
func ownerKey(id string) string      { return "imgus:owner:" + id }
func workerKey(id string) string     { return "imgus:worker:" + id }

const workersKey = "imgus:workers"

// NewID makes an id for a job: a UUIDv7, so that ids sort by age.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// The name of a queue stands in Redis keys between braces.
var validQueue = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

//go:embed lua
var sources embed.FS

func script(name string) *redis.Script {
	source, err := sources.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // the name is a constant of this package
	}
	return redis.NewScript(string(source))
}

// unavailable marks an error of Redis.
func unavailable(doing string, err error) error {
	return fmt.Errorf("%s: %w: %w", doing, ErrUnavailable, err)
}
