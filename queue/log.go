package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/imgus/worker/job"
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

// logEnd tells of a job's end: all that matters to whoever looks for what took
// so long or went wrong, and nothing of what the job was about.
func logEnd(ctx context.Context, log *slog.Logger, e End) {
	attrs := []slog.Attr{slog.String("state", string(e.Outcome.State)), slog.String("code", string(e.Code))}
	add := func(known bool, attr slog.Attr) {
		if known {
			attrs = append(attrs, attr)
		}
	}
	add(slices.Contains(job.Kinds(), e.Job.Kind), slog.String("kind", string(e.Job.Kind)))
	add(job.ValidModel(e.Job.Model), slog.String("model", e.Job.Model))
	if created := e.Job.CreatedAt; created != nil {
		add(true, slog.Int64("waited_ms", max(e.Began.Sub(*created).Milliseconds(), 0)))
	}
	r := e.Outcome.Record
	switch {
	case r == nil:
	case !e.Mine():
		add(true, slog.Bool("decided_before", true))
	default:
		if r.Engine != nil {
			add(true, slog.String("device", r.Engine.Device))
		}
		if p := r.Parameters; p != nil {
			add(true, slog.String("size", fmt.Sprintf("%dx%d", p.Width, p.Height)))
			add(true, slog.Int("steps", p.Steps))
		}
		add(len(r.Images) > 0, slog.Int("images", len(r.Images)))
		var timings []any
		for _, stage := range job.Stages() {
			if ms, ok := r.Timings[stage]; ok {
				timings = append(timings, slog.Int64(string(stage), ms))
			}
		}
		add(len(timings) > 0, slog.Group("timings_ms", timings...))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "job ended", attrs...)
}
