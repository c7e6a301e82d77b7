package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// meter tells the observer of every command.
type meter struct{ observer Observer }

var _ redis.Hook = meter{}

// DialHook implements redis.Hook.
func (m meter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		start := time.Now()
		conn, err := next(ctx, network, addr)
		if !errors.Is(err, errPaced) { // nobody was asked
			m.observer.Command("dial", time.Since(start), err)
		}
		return conn, err
	}
}

// ProcessHook implements redis.Hook.
func (m meter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		m.observer.Command(cmd.Name(), time.Since(start), trouble(ctx, err))
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (m meter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmds)
		m.observer.Command("pipeline", time.Since(start), trouble(ctx, err))
		return err
	}
}

// trouble is the error unless it is an answer that is part of the work, or the
// caller did not want one any more.
func trouble(ctx context.Context, err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") || errors.Is(ctx.Err(), context.Canceled) ||
		err != nil && strings.HasSuffix(err.Error(), "NOT FOUND") { // asynq's scripts
		return nil
	}
	return err
}
