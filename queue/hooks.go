package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// asynqHook stands between asynq and Redis.
type asynqHook struct {
	// open says whether another task may be taken; while it is not, asynq
	// finds its queues empty.
	open func() bool
	// quit ends the pauses.
	quit <-chan struct{}

	// keepCancelled leaves contexts as they are, for the test of A1.
	keepCancelled bool

	failures atomic.Int32 // of taking a task, in a row
}

// DialHook changes nothing.
func (h *asynqHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook defends against three defects.
//
// A1: what asynq could not write at the end of a task, because Redis was away,
// it writes again later, but with a context that it has cancelled itself; the
// task would be given out a second time although it is done. A command never
// runs with a cancelled context here.
//
// A8: asynq asks for the next task again and again without a pause while Redis
// refuses. Here the question takes its time then.
//
// A6: every few seconds asynq copies the payloads of running tasks to where
// asynq:workers keeps them for tools to show. The copies are emptied here.
func (h *asynqHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if errors.Is(ctx.Err(), context.Canceled) && !h.keepCancelled {
			fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			ctx = fresh
		}
		emptyWorkerInfo(cmd)
		if !takesTask(cmd) {
			return next(ctx, cmd)
		}
		if !h.open() {
			return redis.Nil
		}
		err := next(ctx, cmd)
		h.pause(err)
		return err
	}
}

// ProcessPipelineHook changes nothing: asynq writes no ends of tasks in
// pipelines.
func (h *asynqHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// takesTask recognises asynq's dequeue script by its first two keys:
//
//	EVALSHA sha 4 asynq:{queue}:pending asynq:{queue}:paused ...
func takesTask(cmd redis.Cmder) bool {
	pending, paused := firstKeys(cmd)
	return strings.HasSuffix(pending, ":pending") && strings.HasSuffix(paused, ":paused")
}

// emptyWorkerInfo recognises the script that writes a server's state:
//
//	EVALSHA sha 2 asynq:servers:{…} asynq:workers:{…} ttl server (id worker)*
func emptyWorkerInfo(cmd redis.Cmder) {
	servers, workers := firstKeys(cmd)
	if !strings.HasPrefix(servers, "asynq:servers:") || !strings.HasPrefix(workers, "asynq:workers:") {
		return
	}
	for i, args := 8, cmd.Args(); i < len(args); i += 2 {
		args[i] = ""
	}
}

// firstKeys returns a script's first two keys.
func firstKeys(cmd redis.Cmder) (string, string) {
	args := cmd.Args()
	if name := cmd.Name(); len(args) < 5 || name != "evalsha" && name != "eval" {
		return "", ""
	}
	first, _ := args[3].(string)
	second, _ := args[4].(string)
	return first, second
}

func (h *asynqHook) pause(err error) {
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		h.failures.Store(0)
		return
	}
	delay := min(100*time.Millisecond<<min(h.failures.Add(1), 10), 2*time.Second)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.quit:
	}
}

var _ redis.Hook = (*asynqHook)(nil)
