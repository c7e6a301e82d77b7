package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"
)

// What asynq keeps whatever happens: the names of queues, its counters, and
// what servers tell of themselves.
var bookkeeping = regexp.MustCompile(`^asynq:(queues|servers|workers|(servers|workers):\{.*\}|\{[^}]*\}:(processed|failed)(:\d{4}-\d\d-\d\d)?)$`)

// auditRedis looks at every key, and at the status of each job, which must say
// what its record says.
func auditRedis(ctx context.Context, r *report, o options, states map[string]string) error {
	at, err := redis.ParseURL(o.redis)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	client := redis.NewClient(at)
	defer client.Close()
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		if err := auditKey(ctx, r, client, keys.Val(), o.secrets); err != nil {
			return err
		}
	}
	if err := keys.Err(); err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	for id, state := range states {
		told, err := client.Do(ctx, "HGET", "imgus:job:"+id, "state").Text()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read status: %w", err)
		}
		if told != state {
			r.add(stale, 1, "%s is %q by its status and %q by its record", id, told, state)
		}
	}
	return nil
}

func auditKey(ctx context.Context, r *report, client *redis.Client, key, secrets string) error {
	// Milliseconds; -1 is for ever, -2 is gone meanwhile.
	ttl, err := client.Do(ctx, "PTTL", key).Int64()
	if err != nil {
		return fmt.Errorf("ask for expiry: %w", err)
	}
	switch {
	case ttl == -2, bookkeeping.MatchString(key):
	case !strings.HasPrefix(key, "imgus:"):
		r.add(leftover, 1, "%s", key)
	case ttl == -1:
		r.add(leftover, 1, "%s does not expire", key)
	}
	if secrets == "" {
		return nil
	}
	content, err := read(ctx, client, key)
	if err != nil {
		return err
	}
	if strings.Contains(content, secrets) || strings.Contains(key, secrets) {
		r.add(told, 1, "key %s", key)
	}
	return nil
}

// read gives all that a key holds, as text.
func read(ctx context.Context, client *redis.Client, key string) (string, error) {
	kind, err := client.Do(ctx, "TYPE", key).Text()
	if err != nil {
		return "", fmt.Errorf("ask for type: %w", err)
	}
	commands := map[string][]any{
		"string": {"GET", key}, "hash": {"HGETALL", key}, "list": {"LRANGE", key, 0, -1}, "set": {"SMEMBERS", key}, "zset": {"ZRANGE", key, 0, -1},
	}
	command, known := commands[kind]
	if !known { // gone meanwhile
		return "", nil
	}
	content, err := client.Do(ctx, command...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read key: %w", err)
	}
	return fmt.Sprint(content), nil
}
