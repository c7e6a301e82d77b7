package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// asynqLog passes on what asynq logs. asynq tells of every start, retry and
// end, which our own lines say better: that is for debugging. Its errors repeat
// for as long as Redis is away, which is said once: quiet tells when.
type asynqLog struct {
	log   *slog.Logger
	quiet func() bool
}

func (l asynqLog) Debug(...any)     {}
func (l asynqLog) Info(args ...any) { l.write(slog.LevelDebug, args) }
func (l asynqLog) Warn(args ...any) { l.write(slog.LevelDebug, args) }

func (l asynqLog) Error(args ...any) {
	if l.quiet() {
		l.write(slog.LevelDebug, args)
		return
	}
	l.write(slog.LevelWarn, args)
}

// Fatal does not end the process: that is for cmd to decide.
func (l asynqLog) Fatal(args ...any) { l.write(slog.LevelError, args) }

func (l asynqLog) write(level slog.Level, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "asynq", "message", fmt.Sprint(args...))
	}
}

func logRetry(log *slog.Logger, v verdict) {
	attrs := []any{"code", v.reason.Code, "counted", v.counted, "error", v.reason}
	if p, ok := errors.AsType[*panicError](v.reason); ok {
		attrs = append(attrs, "stack", string(p.stack))
	}
	log.Warn("job is tried again", attrs...)
}
