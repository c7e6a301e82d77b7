package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func TestSecondEnqueue(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		if got, want := enqueue(t, c, "a"), (queue.Receipt{ID: "a", Queue: "interactive", State: job.Queued}); got != want {
			t.Errorf("first: %+v", got)
		}
		// The id is held across queues.
		again, err := c.Enqueue(t.Context(), newJob("a"), "batch")
		if want := (queue.Receipt{ID: "a", Queue: "interactive", State: job.Queued, Existing: true}); err != nil || again != want {
			t.Errorf("second: %+v, %v", again, err)
		}
		if n := r.Exists(t.Context(), "asynq:{batch}:t:a").Val(); n != 0 {
			t.Error("there are two tasks")
		}
		h := newHandler(done)
		w := start(t, options(at, h))
		waitState(t, c, "a", job.Done)
		ended, err := c.Enqueue(t.Context(), newJob("a"), "interactive")
		if want := (queue.Receipt{ID: "a", Queue: "interactive", State: job.Done, Existing: true}); err != nil || ended != want {
			t.Errorf("after the end: %+v, %v", ended, err)
		}
		w.stop()
		checkResidue(t, r)
		if n, _ := h.seen("a"); len(n) != 1 {
			t.Errorf("tried %d times", len(n))
		}
	})
}

// A producer that died between the status and the task tries again.
func TestEnqueueMendsWhatIsHalfDone(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		if _, err := queue.PutStatus(t.Context(), r, queue.Status{ID: "a", Queue: "batch", State: job.Queued}); err != nil {
			t.Fatal(err)
		}
		if got, want := enqueue(t, c, "a"), (queue.Receipt{ID: "a", Queue: "batch", State: job.Queued}); got != want {
			t.Errorf("got %+v", got)
		}
		start(t, options(at, newHandler(done)))
		waitState(t, c, "a", job.Done)
	})
}

func TestEnqueueRefuses(t *testing.T) {
	at := queue.Connection{URL: miniredis.RunT(t).Addr()}
	c := client(t, at)
	bad := newJob("a")
	bad.Model = ""
	large := newJob("a")
	text := strings.Repeat("\u2028", 4000)
	large.Prompt, large.NegativePrompt = &text, &text
	key := "inputs/" + strings.Repeat("x", job.MaxPayload)
	large.Kind, large.Input = job.ImageToImage, &key
	for name, j := range map[string]*job.Job{"no model": bad, "too large": large, "no id": newJob("")} {
		_, err := c.Enqueue(t.Context(), j, "batch")
		if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != job.InvalidJob {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := c.Enqueue(t.Context(), newJob("a"), "a}b"); err == nil {
		t.Error("a queue's name with a brace was taken")
	}
	if left := leftovers(t, inspect(t, at)); len(left) > 0 {
		t.Error(left)
	}
}

func TestUnknownJob(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		if _, err := c.Status(t.Context(), "nobody"); !errors.Is(err, queue.ErrUnknownJob) {
			t.Errorf("status: %v", err)
		}
		if _, err := c.Cancel(t.Context(), "nobody"); !errors.Is(err, queue.ErrUnknownJob) {
			t.Errorf("cancel: %v", err)
		}
		for _, err := range c.Watch(t.Context(), "nobody") {
			if !errors.Is(err, queue.ErrUnknownJob) {
				t.Errorf("watch: %v", err)
			}
		}
		// A foreign producer's job has no status, but it is known.
		if _, err := asynq.NewClientFromRedisClient(r).Enqueue(asynq.NewTask(job.TaskType, []byte("{}")), asynq.TaskID("b"), asynq.Queue("batch")); err != nil {
			t.Fatal(err)
		}
		s, err := c.Status(t.Context(), "b")
		if err != nil || s.State != job.Queued || s.Queue != "batch" {
			t.Errorf("got %+v, %v", s, err)
		}
	})
}

func TestClientWithoutRedis(t *testing.T) {
	c := client(t, queue.Connection{URL: "127.0.0.1:1"})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := c.Enqueue(ctx, newJob("a"), "batch")
	_, status := c.Status(ctx, "a")
	_, stop := c.Cancel(ctx, "a")
	for name, err := range map[string]error{"enqueue": err, "status": status, "cancel": stop, "ping": c.Ping(ctx)} {
		if !errors.Is(err, queue.ErrUnavailable) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, err := range c.Watch(ctx, "a") {
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("watch: got %v", err)
		}
	}
}
