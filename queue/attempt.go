package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/hibiken/asynq"

	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

// redisPatience bounds each of our own calls to Redis within an attempt.
const redisPatience = 3 * time.Second

// delivery is a task as asynq gave it out, and the attempt that came of it.
type delivery struct {
	queue   string
	id      string // valid
	payload []byte
	headers map[string]string

	job     *job.Job
	attempt job.Attempt
	counted int // attempts that count against the job, this one included
	began   time.Time
	stage   latest
}

// processTask is asynq's handler. What it returns is asynq's verdict; no job
// ever goes to asynq's archive, which would keep the payload for months (A6).
func (c *Consumer) processTask(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	if task.Type() != job.TaskType || !job.ValidID(id) {
		// There is no id under which to say anything about it.
		c.log.Warn("dropped a task that is no job", "queue", queue, "bytes", len(task.Payload()))
		c.observe(func(o Observer) { o.Dropped(queue) })
		return asynq.RevokeTask
	}
	d := &delivery{queue: queue, id: id, payload: task.Payload(), headers: task.Headers()}
	v := c.deliver(ctx, d)
	switch v.action {
	case finish:
		failpoint.Hit(failpoint.BeforeAck)
		return asynq.RevokeTask // deletes the task, whatever its state (A9)
	case handBack:
		// asynq puts the task back at the head of its queue when it shuts
		// down, provided that nothing was returned before.
		<-ctx.Done()
		return job.ErrShutdown
	case park:
		return &later{code: v.waits, delay: parkDelay(d.attempt.Number)}
	default:
		return &later{code: v.reason.Code, delay: retryDelay(d.attempt.Number, v.reason)}
	}
}

// deliver makes one attempt, publishes what came of it, and returns the
// verdict, which is anything but refuse.
func (c *Consumer) deliver(ctx context.Context, d *delivery) verdict {
	work, err := c.slots.take(ctx, d.id)
	switch {
	case errors.Is(err, job.ErrShutdown):
		return verdict{action: handBack}
	case err != nil: // asynq took the task back while it waited and does not listen any more
		return verdict{action: retry, reason: job.AsError(err)}
	}
	defer c.release(work, d.id)
	defer c.slots.leave(d.id)
	d.began = time.Now()

	failpoint.Hit(failpoint.Dequeued)
	if err := c.begin(work, d); err != nil {
		level := slog.LevelDebug // another worker has it: asked again every second
		if !errors.Is(err, errOwned) {
			level = slog.LevelWarn
			c.holding.trouble() // the next one would fare no better
		}
		c.log.Log(work, level, "attempt not begun", "job_id", d.id, "error", err)
		return verdict{action: retry, reason: job.AsError(err)}
	}
	failpoint.Hit(failpoint.AttemptBegun)
	if o := c.opts.Observer; o != nil {
		work = o.Began(work, d.queue, d.headers)
	}
	v := c.try(work, d)
	if v.action == refuse {
		v = c.refuse(work, d, v.reason)
	}
	c.settle(work, d, v)
	return v
}

// begin marks the job as this worker's and counts the attempt.
func (c *Consumer) begin(work context.Context, d *delivery) error {
	ctx, cancel := patience(work)
	defer cancel()
	mine, err := c.owners.claim(ctx, d.id)
	if err != nil {
		return err
	}
	if !mine {
		return errOwned
	}
	d.attempt, d.counted, err = c.attempts.begin(ctx, d.id)
	return err
}

// release follows slots.leave, so that no beat renews the mark afterwards.
func (c *Consumer) release(work context.Context, id string) {
	ctx, cancel := patience(work)
	defer cancel()
	if err := c.owners.release(ctx, id); err != nil {
		c.log.Debug("job not released; its mark expires", "job_id", id, "error", err)
	}
}

// try runs the handler, unless the job cannot or must not run.
func (c *Consumer) try(work context.Context, d *delivery) verdict {
	most := c.settings.Load().MaxAttempts
	err := d.read(c.opts.Keys, c.opts.Limits)
	// Another worker's key of the same id may be the right one.
	shut := errors.Is(err, seal.ErrShut) && d.counted < most
	switch {
	case shut || errors.Is(err, seal.ErrNoKey):
		// Also one that was cancelled: who cannot read it cannot delete its photo.
		c.keyless(work, d.id, err)
		return verdict{action: park, waits: WaitsForKey, counted: shut}
	case err != nil:
		return verdict{action: refuse, reason: job.AsError(err), counted: true}
	case c.marked(work, d.id):
		c.slots.cancel(d.id, job.ErrCancelled) // the handler records it
	case d.counted > most:
		reason := job.Errorf(job.Internal, "the worker ended %d times while it worked on the job", d.counted-1)
		return verdict{action: refuse, reason: reason, counted: true}
	case d.job.Expired(time.Now()):
		reason := job.Errorf(job.Expired, "the job's time was over before it began")
		return verdict{action: refuse, reason: reason, counted: true}
	}
	c.say(work, d.status(job.Running))
	return judge(c.process(work, d), d.counted >= most)
}

// keyless says that a job waits for its key, now and then: it may be one of many.
func (c *Consumer) keyless(ctx context.Context, id string, err error) {
	const every = 10 * time.Second
	level := slog.LevelDebug
	if last, now := c.saidKeyless.Load(), time.Now(); now.Sub(time.Unix(last, 0)) > every {
		c.saidKeyless.Store(now.Unix())
		level = slog.LevelWarn
	}
	c.log.Log(ctx, level, "a job waits for its key (see seal.directory)", "job_id", id, "error", err)
}

// read opens and decodes the payload. The job has the task's id in any case, and
// as much of the rest as could be read. The error may be seal.ErrNoKey.
func (d *delivery) read(keys seal.Keys, limits job.Limits) error {
	payload, err := keys.Open(d.payload, d.queue, d.id)
	j, parseErr := job.Parse(payload, limits)
	same := j.ID == d.id
	j.ID, d.job = d.id, j
	if err == nil {
		err = parseErr
	}
	if err == nil && !same {
		return job.Errorf(job.InvalidJob, "id: must be the id of the task")
	}
	return err
}

// process calls the handler and returns when that has really ended, however
// long it ignores the end of its context.
func (c *Consumer) process(work context.Context, d *delivery) (r result) {
	ctx, cancel := context.WithTimeoutCause(work, c.settings.Load().Timeout, job.ErrTimeout)
	defer cancel()
	progress := startProgress(func(now job.Progress) {
		status := d.status(job.Running)
		status.Stage, status.Step, status.Steps = now.Stage, now.Step, now.Steps
		c.say(work, status)
	})
	defer progress.close()
	report := func(now job.Progress) {
		d.stage.set(now.Stage)
		progress.report(now)
	}
	defer func() {
		if x := recover(); x != nil {
			r = result{err: panicked(x)}
		}
		r.cause = context.Cause(ctx)
	}()
	r.outcome, r.err = c.opts.Handler.Process(ctx, d.job, d.attempt, report)
	return r
}

// refuse has the failure recorded. That does not depend on the context of the
// work, which may be the reason.
func (c *Consumer) refuse(work context.Context, d *delivery, reason *job.Error) (v verdict) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(work), time.Minute)
	defer cancel()
	var r result
	defer func() {
		if x := recover(); x != nil {
			r.err = panicked(x)
		}
		if r.err == nil && r.outcome.State.Final() {
			v = verdict{action: finish, outcome: r.outcome, counted: true}
			return
		}
		if errors.Is(r.err, job.ErrHeld) {
			v = verdict{action: park, waits: WaitsForRelease}
			return
		}
		v = verdict{action: retry, reason: explain(r)}
	}()
	c.log.Info("refusing job", "job_id", d.id, "attempt", d.attempt.Number, "code", reason.Code, "error", reason)
	r.outcome, r.err = c.opts.Handler.Refuse(ctx, d.job, d.attempt, reason)
	return v
}

// settle publishes and counts what came of the attempt.
func (c *Consumer) settle(work context.Context, d *delivery, v verdict) {
	log := c.log.With("job_id", d.id, "queue", d.queue, "attempt", d.attempt.Number, "dur_ms", time.Since(d.began).Milliseconds())
	ctx, cancel := patience(work)
	defer cancel()
	status, end := d.status(job.Queued), d.end(v)
	defer c.observe(func(o Observer) { o.Ended(work, end) })
	switch v.action {
	case finish:
		c.holding.fine()
		status.State, status.ErrorCode, status.ResultKey = v.outcome.State, v.outcome.Code, v.outcome.RecordKey
		failpoint.Hit(failpoint.BeforeStatus)
		c.sayLast(work, status)
		failpoint.Hit(failpoint.AfterStatus)
		if err := c.attempts.forget(ctx, d.id); err != nil {
			log.Debug("attempts not forgotten; they expire", "error", err)
		}
		logEnd(work, log, end)
		return
	case retry:
		if v.reason.Passing() {
			c.holding.trouble()
		}
		status.ErrorCode = v.reason.Code
		logRetry(log, v)
	case handBack:
		log.Info("job handed back")
	case park:
		log.Debug("job waits", "for", v.waits)
	}
	if !v.counted {
		if err := c.attempts.uncount(ctx, d.id, d.attempt); err != nil {
			log.Warn("attempt counts although it should not", "error", err)
		}
	}
	c.say(work, status)
}

func (d *delivery) status(state job.State) Status {
	return Status{ID: d.id, Queue: d.queue, State: state, Attempt: d.attempt.Number}
}

// patience outlives the work, but not for long.
func patience(work context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(work), redisPatience)
}

// panicError keeps what a panic said out of logs unless the runtime said it:
// a panic's value may hold anything.
type panicError struct {
	text  string
	stack []byte
}

func (e *panicError) Error() string { return e.text }

func panicked(x any) error {
	text := fmt.Sprintf("panic with a %T", x)
	if e, ok := x.(runtime.Error); ok {
		text = "panic: " + e.Error()
	}
	return job.Wrap(job.Internal, &panicError{text: text, stack: debug.Stack()}, "the worker failed in a way it did not foresee; the log has the cause")
}
