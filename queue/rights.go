package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// needed are the commands that a worker's Redis user must be allowed, each with
// arguments that change nothing but the probe's own key.
func needed(key string) [][]any {
	return [][]any{
		{"set", key, "1", "ex", 10},
		{"setex", key, 10, "1"},
		{"get", key},
		{"exists", key},
		{"incr", key},
		{"expire", key, 10},
		{"expireat", key, time.Now().Add(10 * time.Second).Unix()},
		{"del", key},
		{"hset", key, "f", "1"},
		{"hincrby", key, "f", 1},
		{"hget", key, "f"},
		{"hmget", key, "f"},
		{"hgetall", key},
		{"hdel", key, "f"},
		{"sadd", key, "m"},
		{"sismember", key, "m"},
		{"smembers", key},
		{"srem", key, "m"},
		{"zadd", key, 1, "m"},
		{"zscore", key, "m"},
		{"zcard", key},
		{"zrange", key, 0, -1},
		{"zrangebyscore", key, 0, 1},
		{"zrem", key, "m"},
		{"zremrangebyscore", key, 0, 1},
		{"lpush", key, "m"},
		{"llen", key},
		{"lrange", key, 0, -1},
		{"lrem", key, 0, "m"},
		{"rpush", key, "m"},
		{"rpoplpush", key, key},
		{"del", key},
		{"eval", "return 1", 1, key},
		{"evalsha", strings.Repeat("0", 40), 1, key},
		{"scan", 0, "match", key, "count", 1},
		{"publish", eventsChannel(probeID), ""},
		{"publish", cancelChannel, ""},
	}
}

const probeID = "probe"

// Rights tries what a worker does in Redis on keys of its own, and names what
// this user lacks, as rules of an access control list: +zadd, ~imgus:*.
func (c *Client) Rights(ctx context.Context) ([]string, error) {
	var denied []string
	note := func(what string) {
		if !slices.Contains(denied, what) {
			denied = append(denied, what)
		}
	}
	// A key of ours, and one of asynq's.
	for _, key := range []string{"imgus:probe:" + NewID(), "asynq:{imgus-probe}:" + NewID()} {
		for _, args := range needed(key) {
			err := c.redis.Do(ctx, args...).Err()
			switch command := fmt.Sprint("+", args[0]); {
			case err == nil || errors.Is(err, redis.Nil):
			case strings.Contains(err.Error(), "access one of the keys"), strings.Contains(err.Error(), "access a key"):
				space, _, _ := strings.Cut(key, ":")
				note("~" + space + ":*")
			case strings.Contains(err.Error(), "channels"):
				note("&" + strings.Replace(fmt.Sprint(args[1]), probeID, "*", 1))
			case strings.HasPrefix(err.Error(), "NOPERM"):
				note(command)
			case !replied(err), full(err):
				return nil, unavailable("try rights", err)
			}
		}
	}
	for _, try := range []struct {
		command      string
		subscription *redis.PubSub
	}{
		{"+subscribe", c.redis.Subscribe(ctx, cancelChannel, eventsChannel(probeID))},
		{"+psubscribe", c.redis.PSubscribe(ctx, eventsChannel("*"))},
	} {
		_, err := try.subscription.Receive(ctx)
		_ = try.subscription.Close() // it ends with the connection
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "channels"):
			if try.command == "+psubscribe" { // which of the others, publish has found
				note("&" + eventsChannel("*"))
			}
		case replied(err):
			note(try.command)
		default:
			return nil, unavailable("try rights", err)
		}
	}
	return denied, nil
}

// full reports whether Redis takes no writes from anybody: it is out of memory,
// a replica, or cannot save.
func full(err error) bool {
	return redis.HasErrorPrefix(err, "OOM") || redis.HasErrorPrefix(err, "READONLY") || redis.HasErrorPrefix(err, "MISCONF")
}

// replied reports whether an error is Redis's answer and no outage.
func replied(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}
