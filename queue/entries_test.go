package queue_test

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func entries(t *testing.T, c *queue.Client) map[string]queue.Entry {
	t.Helper()
	all := map[string]queue.Entry{}
	for e, err := range c.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all[e.Job.ID] = e
	}
	return all
}

// Every job in every queue is found, wherever asynq keeps it, and can be removed
// without a trace.
func TestEntries(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c := inspect(t, at), client(t, at)
		foreign := asynq.NewClientFromRedisClient(r)
		inspector := asynq.NewInspectorFromRedisClient(r)
		put := func(id string, payload []byte, opts ...asynq.Option) {
			t.Helper()
			if _, err := foreign.Enqueue(asynq.NewTask(job.TaskType, payload), append([]asynq.Option{asynq.TaskID(id), asynq.Queue("batch")}, opts...)...); err != nil {
				t.Fatal(err)
			}
		}
		payload := func(id string) []byte {
			return []byte(`{"version":1,"id":"` + id + `","kind":"text-to-image","model":"m","prompt":"` + secret + `","subject":"user-1"}`)
		}
		put("pending", payload("pending"), asynq.Unique(time.Hour))
		put("scheduled", payload("scheduled"), asynq.ProcessIn(time.Hour))
		put("archived", payload("archived"))
		if err := inspector.ArchiveTask("batch", "archived"); err != nil {
			t.Fatal(err)
		}
		put("grouped", payload("grouped"), asynq.Group("g"))
		put("elsewhere", payload("elsewhere"), asynq.Queue("third"))
		put("typo", []byte(`{"id":"typo","kind":"inpaint","subject":"user-1","promt":1}`))
		put("garbage", []byte("no JSON"))
		put("hidden", []byte(`{"version":1,"id":"hidden","box":"AAAA"}`))

		all := entries(t, c)
		if got := slices.Sorted(maps.Keys(all)); !slices.Equal(got, []string{"archived", "elsewhere", "garbage", "grouped", "hidden", "pending", "scheduled", "typo"}) {
			t.Fatalf("found %v", got)
		}
		for id, e := range all {
			unreadable := id == "garbage" || id == "hidden"
			if e.Unreadable != unreadable || e.Active || e.Waits || !unreadable && *e.Job.Subject != "user-1" {
				t.Errorf("%s is %+v", id, e)
			}
			for _, want := range []bool{true, false} {
				if found, err := c.Forget(t.Context(), id); err != nil || found != want {
					t.Errorf("forget %s: %v, %v", id, found, err)
				}
			}
		}
		checkResidue(t, r)
		for _, key := range keys(t, r) {
			if key != "asynq:queues" {
				t.Errorf("%s is left", key)
			}
		}
	})
}

// A job on hold is given back, uncounted, without holding up any other; when it
// may go on it does so at once.
func TestHeld(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c := inspect(t, at), client(t, at)
		var held atomic.Bool
		held.Store(true)
		h := newHandler(func(_ context.Context, j *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
			if j.ID == "held" && held.Load() {
				return job.Outcome{}, job.ErrHeld
			}
			return job.Outcome{State: job.Done}, nil
		})
		opts := options(at, h)
		opts.MaxAttempts = 1
		w := start(t, opts)
		enqueue(t, c, "held")
		eventually(t, "the job to wait", func() bool { return entries(t, c)["held"].Waits })
		enqueue(t, c, "another")
		waitState(t, c, "another", job.Done)
		if score := r.ZScore(t.Context(), "asynq:{interactive}:retry", "held").Val(); time.Until(time.Unix(int64(score), 0)) < 10*time.Second {
			t.Error("it is tried again at once")
		}
		eventually(t, "the status", func() bool {
			s, err := c.Status(t.Context(), "held")
			return err == nil && s.State == job.Queued && s.ErrorCode == ""
		})
		held.Store(false)
		c.GoOn(entries(t, c)["held"])
		waitState(t, c, "held", job.Done)
		if attempts, refused := h.seen("held"); len(attempts) != 2 || len(refused) != 0 {
			t.Errorf("attempts %v, refused %v", attempts, refused)
		}
		w.stop()
		checkResidue(t, r)
	})
}

// Work in hand can be stopped, and nothing is left of it afterwards.
func TestStop(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c := inspect(t, at), client(t, at)
		if running, err := c.Stop(t.Context(), "nobody"); err != nil || running {
			t.Errorf("nobody: %v, %v", running, err)
		}
		w := start(t, options(at, newHandler(polite)))
		enqueue(t, c, "long")
		eventually(t, "the job to run", func() bool { return entries(t, c)["long"].Active })
		eventually(t, "the job to end", func() bool {
			running, err := c.Stop(t.Context(), "long")
			return err == nil && !running
		})
		if _, err := c.Forget(t.Context(), "long"); err != nil {
			t.Error(err)
		}
		for _, key := range []string{"imgus:job:long", "imgus:attempts:long", "imgus:cancel:long", "asynq:{interactive}:t:long"} {
			if r.Exists(t.Context(), key).Val() != 0 {
				t.Errorf("%s is left", key)
			}
		}
		w.stop()
		checkResidue(t, r)
	})
}
