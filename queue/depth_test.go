package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func TestDepths(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c := client(t, at)
		if depths, err := c.Depths(t.Context()); err != nil || len(depths) > 0 {
			t.Fatalf("%+v, %v", depths, err)
		}
		for _, id := range []string{"a", "b", "c"} {
			enqueue(t, c, id)
		}
		foreign(t, inspect(t, at), "later", asynq.ProcessIn(time.Hour), asynq.Queue("batch"))
		time.Sleep(20 * time.Millisecond)
		depths, err := c.Depths(t.Context())
		if err != nil || len(depths) != 2 || depths[0].Queue != "batch" || depths[0].Waiting != 1 || depths[0].Oldest != 0 ||
			depths[1].Queue != "interactive" || depths[1].Pending != 3 || depths[1].Oldest < 20*time.Millisecond || depths[1].Oldest > time.Minute {
			t.Fatalf("%+v, %v", depths, err)
		}
		taken, release := make(chan struct{}), make(chan struct{})
		h := newHandler(nil)
		h.process = func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			taken <- struct{}{}
			<-release
			return job.Outcome{State: job.Done}, nil
		}
		start(t, options(at, h))
		<-taken
		depths, err = c.Depths(t.Context(), "interactive")
		if err != nil || len(depths) != 1 || depths[0].Active != 1 || depths[0].Pending != 2 {
			t.Errorf("%+v, %v", depths, err)
		}
		close(release)
		<-taken
		<-taken
	})
	if _, err := client(t, queue.Connection{URL: "127.0.0.1:1"}).Depths(t.Context(), "x"); err == nil {
		t.Error("depths of no server")
	}
}
