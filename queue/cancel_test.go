package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// A9: each of ten cancelled jobs is gone from Redis.
func TestCancelEndsRunningJobs(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r, h := client(t, at), inspect(t, at), newHandler(polite)
		opts := options(at, h)
		opts.Concurrency = 10
		start(t, opts)
		for i := range 10 {
			enqueue(t, c, fmt.Sprint("job-", i))
		}
		for i := range 10 {
			id := fmt.Sprint("job-", i)
			waitState(t, c, id, job.Running)
			if s, err := c.Cancel(t.Context(), id); err != nil || s.State != job.Running {
				t.Errorf("cancel: %+v, %v", s, err)
			}
		}
		for i := range 10 {
			id := fmt.Sprint("job-", i)
			waitState(t, c, id, job.Cancelled)
			if n, refused := h.seen(id); len(n) != 1 || refused != nil {
				t.Errorf("%s was tried %d times and refused with %v", id, len(n), refused)
			}
			if s, err := c.Cancel(t.Context(), id); !errors.Is(err, queue.ErrFinished) || s.State != job.Cancelled {
				t.Errorf("second cancel: %+v, %v", s, err)
			}
		}
		checkResidue(t, r)
	})
}

// The message may be lost; the mark is found all the same.
func TestCancelByTheMarkAlone(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		start(t, options(at, newHandler(polite)))
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Running)
		r.Set(t.Context(), "imgus:cancel:a", "1", 1<<40)
		waitState(t, c, "a", job.Cancelled)
		checkResidue(t, r)
	})
}

func TestCancelWhileItWaits(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		overAtStart := make(chan bool, 1)
		h := newHandler(func(ctx context.Context, _ *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
			overAtStart <- errors.Is(context.Cause(ctx), job.ErrCancelled)
			return job.Outcome{State: job.Cancelled}, nil
		})
		enqueue(t, c, "a")
		if s, err := c.Cancel(t.Context(), "a"); err != nil || s.State != job.Queued {
			t.Errorf("cancel: %+v, %v", s, err)
		}
		start(t, options(at, h))
		if !<-overAtStart {
			t.Error("the job began as if it were not cancelled")
		}
		waitState(t, c, "a", job.Cancelled)
		checkResidue(t, r)
	})
}
