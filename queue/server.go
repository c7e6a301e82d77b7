package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ServerFacts are what Redis tells of itself; "" where it does not, for example
// because the user may not ask.
type ServerFacts struct {
	Version string // such as "7.2.4"
	Role    string // master or slave
	// MaxmemoryPolicy is what goes when memory is short; it should be noeviction.
	MaxmemoryPolicy string
	AppendOnly      string // whether writes survive a restart: yes or no
	// ClockSkew is how far the clock of this machine is ahead; 0 if unknown.
	ClockSkew time.Duration
}

// Server asks Redis about itself. What the user may not ask stays empty.
func (c *Client) Server(ctx context.Context) (ServerFacts, error) {
	if err := c.Ping(ctx); err != nil {
		return ServerFacts{}, err
	}
	return serverFacts(ctx, c.redis), nil
}

func serverFacts(ctx context.Context, r redis.UniversalClient) ServerFacts {
	var facts ServerFacts
	if skew, err := clockSkew(ctx, r, time.Now); err == nil {
		facts.ClockSkew = skew
	}
	text, err := r.Info(ctx).Result()
	if err != nil {
		return facts
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	facts.Version, facts.Role, facts.MaxmemoryPolicy = info["redis_version"], info["role"], info["maxmemory_policy"]
	switch info["aof_enabled"] {
	case "0":
		facts.AppendOnly = "no"
	case "1":
		facts.AppendOnly = "yes"
	}
	return facts
}

// Faults says what of the facts makes work impossible, a sentence each.
func (f ServerFacts) Faults() []string {
	var faults []string
	if f.Version != "" && !atLeast(f.Version, 6, 2) {
		faults = append(faults, fmt.Sprintf("redis is version %s; 6.2 is the oldest that works", f.Version))
	}
	if f.Role == "slave" {
		faults = append(faults, "this redis is a replica, to which nothing can be written; give the master, or use sentinel")
	}
	return faults
}

// Problems says what of the facts may lose jobs, a sentence each.
func (f ServerFacts) Problems() []string {
	var problems []string
	if f.MaxmemoryPolicy != "" && f.MaxmemoryPolicy != "noeviction" {
		problems = append(problems, fmt.Sprintf("redis drops keys when memory is short, and jobs with them: set maxmemory-policy noeviction in place of %s", f.MaxmemoryPolicy))
	}
	if f.AppendOnly == "no" {
		problems = append(problems, "redis forgets jobs when it restarts: set appendonly yes")
	}
	return problems
}

// ClockFault says that with this machine's clock no job is taken, or "".
func (f ServerFacts) ClockFault() string {
	if f.ClockSkew.Abs() <= maxSkew {
		return ""
	}
	way := "ahead of"
	if f.ClockSkew < 0 {
		way = "behind"
	}
	return fmt.Sprintf("this machine's clock is %s %s that of redis, and no job is taken: at most %s will do", f.ClockSkew.Abs().Round(time.Millisecond), way, maxSkew)
}

func atLeast(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(first)
	b, _ := strconv.Atoi(second)
	return err != nil || a > major || a == major && b >= minor // an unknown scheme is newer
}

// warnOfServer says once what is wrong with Redis, but for the clock, of which
// checkClock tells, and for what survives a restart, which may be meant so.
func (c *Consumer) warnOfServer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisPatience)
	defer cancel()
	facts := serverFacts(ctx, c.redis)
	facts.AppendOnly = ""
	for _, problem := range append(facts.Faults(), facts.Problems()...) {
		c.log.Warn(problem)
	}
}
