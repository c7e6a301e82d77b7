package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// step is what a handler does in one attempt.
type step func(ctx context.Context) (job.Outcome, error)

func outcome(o job.Outcome) step {
	return func(context.Context) (job.Outcome, error) { return o, nil }
}

func failure(err error) step {
	return func(context.Context) (job.Outcome, error) { return job.Outcome{}, err }
}

func TestVerdicts(t *testing.T) {
	const id = "job-1"
	ok := fmt.Sprintf(`{"version":1,"id":%q,"kind":"text-to-image","model":"demo","prompt":%q}`, id, secret)
	with := func(field string) string { return strings.TrimSuffix(ok, "}") + "," + field + "}" }
	passing := job.Errorf(job.StorageUnavailable, "storage is away")
	tests := []struct {
		name     string
		payload  string         // ok if empty
		options  []asynq.Option // as a foreign producer gives them
		max      int            // attempts, 3 if zero
		steps    []step         // by attempt, the last for all others
		refusals []error        // of Refuse, by call
		attempts int
		refused  []job.Code
		state    job.State
		code     job.Code
	}{
		{name: "done", steps: []step{outcome(job.Outcome{State: job.Done})}, attempts: 1, state: job.Done},
		{name: "failed and recorded", steps: []step{outcome(job.Outcome{State: job.Failed, Code: job.InputMissing})},
			attempts: 1, state: job.Failed, code: job.InputMissing},
		{name: "refused by safety", steps: []step{outcome(job.Outcome{State: job.Failed, Code: job.Refused})},
			attempts: 1, state: job.Failed, code: job.Refused},
		{name: "erased", steps: []step{outcome(job.Outcome{State: job.Erased})}, attempts: 1, state: job.Erased},
		{name: "final error", steps: []step{failure(fmt.Errorf("look up: %w", job.Errorf(job.UnknownModel, "no such model")))},
			attempts: 1, refused: []job.Code{job.UnknownModel}, state: job.Failed, code: job.UnknownModel},
		{name: "no JSON", payload: secret, refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "empty", payload: " ", refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "typo", payload: with(`"promt":"x"`), refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "out of range", payload: with(`"steps":151`), refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "another id", payload: strings.Replace(ok, id, "job-2", 1), refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "too large", payload: with(`"model":"` + strings.Repeat("x", job.MaxPayload) + `"`),
			refused: []job.Code{job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "expired", payload: with(`"expires_at":"2020-01-01T00:00:00Z"`), refused: []job.Code{job.Expired}, state: job.Failed, code: job.Expired},
		{name: "error, then done", steps: []step{failure(errors.New("broken")), outcome(job.Outcome{State: job.Done})},
			attempts: 2, state: job.Done},
		{name: "no attempt left", max: 2, steps: []step{failure(job.Errorf(job.OutOfMemory, "too little memory"))},
			attempts: 2, refused: []job.Code{job.OutOfMemory}, state: job.Failed, code: job.OutOfMemory},
		{name: "panic", max: 1, steps: []step{func(context.Context) (job.Outcome, error) { panic(secret) }},
			attempts: 1, refused: []job.Code{job.Internal}, state: job.Failed, code: job.Internal},
		{name: "neither outcome nor error", max: 1, steps: []step{outcome(job.Outcome{})},
			attempts: 1, refused: []job.Code{job.Internal}, state: job.Failed, code: job.Internal},
		{name: "storage away, uncounted", max: 1, steps: []step{failure(passing), failure(passing), outcome(job.Outcome{State: job.Done})},
			attempts: 3, state: job.Done},
		{name: "storage away for the refusal", payload: secret, refusals: []error{passing},
			refused: []job.Code{job.InvalidJob, job.InvalidJob}, state: job.Failed, code: job.InvalidJob},
		{name: "no retries in the task", options: []asynq.Option{asynq.MaxRetry(0)}, steps: []step{failure(passing), outcome(job.Outcome{State: job.Done})},
			attempts: 2, state: job.Done},
		{name: "retention in the task", options: []asynq.Option{asynq.Retention(time.Hour)}, steps: []step{outcome(job.Outcome{State: job.Done})},
			attempts: 1, state: job.Done},
		{name: "unique task", options: []asynq.Option{asynq.Unique(time.Hour)}, steps: []step{outcome(job.Outcome{State: job.Done})},
			attempts: 1, state: job.Done},
	}
	servers(t, func(t *testing.T, at queue.Connection) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				r := inspect(t, at)
				r.FlushAll(t.Context())
				var h *handler
				h = newHandler(func(ctx context.Context, _ *job.Job, a job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
					n, _ := h.seen(id)
					return tt.steps[min(len(n), len(tt.steps))-1](ctx)
				})
				h.refuse = func(*job.Error) error {
					if _, codes := h.seen(id); len(codes) <= len(tt.refusals) {
						return tt.refusals[len(codes)-1]
					}
					return nil
				}
				log := &logged{}
				opts := options(at, h)
				opts.Log = log.logger()
				if tt.max > 0 {
					opts.MaxAttempts = tt.max
				}
				payload := tt.payload
				if payload == "" {
					payload = ok
				}
				foreign := asynq.NewClientFromRedisClient(r)
				if _, err := foreign.Enqueue(asynq.NewTask(job.TaskType, []byte(payload)),
					append([]asynq.Option{asynq.TaskID(id), asynq.Queue("batch")}, tt.options...)...); err != nil {
					t.Fatal(err)
				}
				// What asynq archives in spite of all would come back otherwise.
				w := start(t, opts, (*queue.Consumer).DoNotReap)
				status := waitState(t, client(t, at), id, tt.state)
				if status.ErrorCode != tt.code || status.ResultKey != "results/job-1/result.json" || status.Queue != "batch" {
					t.Errorf("status is %+v", status)
				}
				checkResidue(t, r)
				w.stop()
				attempts, refused := h.seen(id)
				if len(attempts) != tt.attempts {
					t.Errorf("%d attempts, want %d", len(attempts), tt.attempts)
				}
				if diff := cmp.Diff(tt.refused, refused); diff != "" {
					t.Errorf("refused:\n%s", diff)
				}
				if text := log.String(); strings.Contains(text, secret) || !strings.Contains(text, "job ended") {
					t.Errorf("the log says %s", text)
				}
				if n := r.Exists(t.Context(), "imgus:attempts:"+id).Val(); n != 0 {
					t.Error("the count of attempts is left")
				}
			})
		}
	})
}

// A job that kills its worker is not tried for ever.
func TestAttemptsThatNeverReported(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, h := inspect(t, at), newHandler(done)
		for range 3 {
			if _, _, err := queue.Begin(t.Context(), r, "poison"); err != nil {
				t.Fatal(err)
			}
		}
		c := client(t, at)
		enqueue(t, c, "poison")
		start(t, options(at, h))
		if s := waitState(t, c, "poison", job.Failed); s.ErrorCode != job.Internal || s.Attempt != 4 {
			t.Errorf("status is %+v", s)
		}
		if attempts, _ := h.seen("poison"); len(attempts) != 0 {
			t.Error("it was tried again")
		}
		checkResidue(t, r)
	})
}

// A6: asynq keeps why a task failed, so it is told the code alone.
func TestErrorTextInRedis(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		const private = "what only the log may say"
		start(t, options(at, newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			return job.Outcome{}, job.Wrap(job.EngineFailed, errors.New(private), "the engine failed")
		})))
		enqueue(t, c, "a")
		eventually(t, "the job to wait for another try", func() bool { return r.ZCard(t.Context(), "asynq:{interactive}:retry").Val() == 1 })
		for _, key := range keys(t, r) {
			if strings.Contains(dump(t, r, key), private) {
				t.Errorf("%s tells the cause", key)
			}
		}
		waitState(t, c, "a", job.Failed)
	})
}

type dropped chan string

func (d dropped) Dropped(queue string)                 { d <- queue }
func (d dropped) Ended(context.Context, queue.End)     {}
func (d dropped) Recovered(string)                     {}
func (d dropped) Outage(bool)                          {}
func (d dropped) Command(string, time.Duration, error) {}
func (d dropped) Began(ctx context.Context, _ string, _ map[string]string) context.Context {
	return ctx
}

func TestWhatIsNoJobIsDropped(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, h, drops := inspect(t, at), newHandler(done), make(dropped, 10)
		foreign := asynq.NewClientFromRedisClient(r)
		for _, task := range []struct{ kind, id string }{
			{job.TaskType, "../" + secret}, {job.TaskType, secret + " "}, {"mail:send", "fine"},
		} {
			if _, err := foreign.Enqueue(asynq.NewTask(task.kind, []byte(secret)), asynq.TaskID(task.id), asynq.Queue("batch")); err != nil {
				t.Fatal(err)
			}
		}
		opts := options(at, h)
		opts.Observer = drops
		start(t, opts)
		for range 3 {
			if q := <-drops; q != "batch" {
				t.Errorf("dropped from %q", q)
			}
		}
		checkResidue(t, r)
		for _, key := range keys(t, r) {
			if strings.HasPrefix(key, "imgus:job:") {
				t.Errorf("%s was written", key)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":"a","kind":"text-to-image","model":"demo","prompt":""}`))
	f.Add([]byte(`{"id":"b","input":"inputs/x"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		j, err := queue.Read("a", payload)
		if j == nil || j.ID != "a" {
			t.Fatal("no job with the task's id")
		}
		if e, ok := errors.AsType[*job.Error](err); err != nil && (!ok || e.Code != job.InvalidJob) {
			t.Fatalf("got %v, want invalid_job", err)
		}
	})
}
