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
	redis redis.UniversalClient // ours
	// open says whether another task may be taken; while it is not, asynq
	// finds its queues empty.
	open func() bool
	// taken hears that a task was.
	taken func()
	// quit ends the pauses.
	quit <-chan struct{}

	// For the tests of A1, of A5 and of the recoverer: what would be without
	// the defence.
	keepCancelled, keepLeases, keepRecoverer bool

	failures atomic.Int32 // of taking a task, in a row
}

// DialHook changes nothing.
func (h *asynqHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook defends against defects of asynq.
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
//
// A5: the scripts that end a task stop half-way if its lease is gone, and its
// hash stays for ever. The lease is put back first.
//
// asynq's recoverer finds nothing to recover: the reaper does that. And what a
// foreign producer asked of asynq is repaired in each task that is taken.
func (h *asynqHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if errors.Is(ctx.Err(), context.Canceled) && !h.keepCancelled {
			fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			ctx = fresh
		}
		emptyWorkerInfo(cmd)
		switch {
		case takesTask(cmd):
			return h.take(ctx, cmd, next)
		case listsExpired(cmd) && !h.keepRecoverer:
			answerNothing(cmd)
			return nil
		}
		if active, lease, id := endsTask(cmd); id != "" && !h.keepLeases {
			// If this fails, so will what follows.
			_ = leaseScript.Run(ctx, h.redis, []string{active, lease}, id, time.Now().Add(beatTTL).Unix()).Err()
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook changes nothing: asynq writes no ends of tasks in
// pipelines.
func (h *asynqHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *asynqHook) take(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if !h.open() {
		return redis.Nil
	}
	err := next(ctx, cmd)
	h.pause(err)
	answer, ok := cmd.(*redis.Cmd)
	if !ok || err != nil {
		return err
	}
	data, _ := answer.Val().(string)
	keys, _ := scriptKeys(cmd)
	queue := strings.TrimSuffix(strings.TrimPrefix(keys[0], "asynq:{"), "}:pending")
	message, ok := repaired(data, queue)
	if !ok {
		return redis.Nil // the reaper will find it
	}
	answer.SetVal(message)
	h.taken()
	return nil
}

// listsExpired recognises the script of asynq's recoverer:
//
//	EVALSHA sha 1 asynq:{queue}:lease cutoff prefix
func listsExpired(cmd redis.Cmder) bool {
	keys, _ := scriptKeys(cmd)
	return len(keys) == 1 && strings.HasSuffix(keys[0], ":lease")
}

func answerNothing(cmd redis.Cmder) {
	if answer, ok := cmd.(*redis.Cmd); ok {
		answer.SetVal([]any{})
	}
}

// endsTask recognises the scripts that take a task out of a worker's hands, and
// returns two of their keys and the task's id:
//
//	EVALSHA sha n … asynq:{queue}:active asynq:{queue}:lease … id …
func endsTask(cmd redis.Cmder) (active, lease, id string) {
	keys, args := scriptKeys(cmd)
	for i := 1; i < len(keys); i++ {
		if strings.HasSuffix(keys[i-1], ":active") && strings.HasSuffix(keys[i], ":lease") && len(args) > 0 {
			id, _ = args[0].(string)
			return keys[i-1], keys[i], id
		}
	}
	return "", "", ""
}

// takesTask recognises asynq's dequeue script by its first two keys:
//
//	EVALSHA sha 4 asynq:{queue}:pending asynq:{queue}:paused ...
func takesTask(cmd redis.Cmder) bool {
	keys, _ := scriptKeys(cmd)
	return len(keys) > 1 && strings.HasSuffix(keys[0], ":pending") && strings.HasSuffix(keys[1], ":paused")
}

// emptyWorkerInfo recognises the script that writes a server's state:
//
//	EVALSHA sha 2 asynq:servers:{…} asynq:workers:{…} ttl server (id worker)*
func emptyWorkerInfo(cmd redis.Cmder) {
	keys, args := scriptKeys(cmd)
	if len(keys) < 2 || !strings.HasPrefix(keys[0], "asynq:servers:") || !strings.HasPrefix(keys[1], "asynq:workers:") {
		return
	}
	for i := 3; i < len(args); i += 2 {
		args[i] = ""
	}
}

// scriptKeys returns the keys of a script and its other arguments.
func scriptKeys(cmd redis.Cmder) ([]string, []any) {
	all := cmd.Args()
	if name := cmd.Name(); len(all) < 3 || name != "evalsha" && name != "eval" {
		return nil, nil
	}
	n, _ := all[2].(int)
	if n < 1 || len(all) < 3+n {
		return nil, nil
	}
	keys := make([]string, n)
	for i := range keys {
		keys[i], _ = all[3+i].(string)
	}
	return keys, all[3+n:]
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
