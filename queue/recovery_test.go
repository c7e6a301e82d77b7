package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// A7: what a killed worker had in hand runs elsewhere in less than twenty
// seconds; asynq alone needs more than a minute. The constants are the real
// ones; the five runs are at once.
func TestDeadWorkersJobsRunAgain(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	c, r := client(t, at), inspect(t, at)
	const n = 5
	holders := map[string]child{}
	for i := range n {
		enqueue(t, c, fmt.Sprint("hold-", i))
		worker := startChild(t, server.Addr)
		holders[worker.runs()] = worker
	}
	again := make(chan string, n)
	opts := options(at, newHandler(func(_ context.Context, j *job.Job, a job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
		if a.Number != 2 {
			t.Errorf("%s is at attempt %d", j.ID, a.Number)
		}
		again <- j.ID
		return job.Outcome{State: job.Done}, nil
	}))
	opts.Concurrency = n
	start(t, opts)
	time.Sleep(17 * time.Second) // the survivor has no opinion about others before
	killed := map[string]time.Time{}
	for id, worker := range holders {
		killed[id] = worker.kill()
		time.Sleep(rand.N(1500 * time.Millisecond))
	}
	for range n {
		id := <-again
		took := time.Since(killed[id])
		t.Logf("%s runs again after %.1f s", id, took.Seconds())
		if took > 30*time.Second {
			t.Errorf("%s ran again after %v only", id, took)
		}
		waitState(t, c, id, job.Done)
	}
	checkResidue(t, r)
}

// A10: a job that kills its worker, process and all, is tried as often as any
// other, and ends with a record. Jobs beside it are done.
func TestPoisonedJobEnds(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	c, r := client(t, at), inspect(t, at)
	for i := range 4 {
		enqueue(t, c, fmt.Sprint("healthy-", i))
	}
	enqueue(t, c, "poison")
	for i := range 4 {
		enqueue(t, c, fmt.Sprint("fine-", i))
	}
	deaths := 0
	for ended := false; !ended; {
		worker := startChild(t, server.Addr, childHasty+"=1")
		died := make(chan struct{})
		go func() {
			defer close(died)
			for worker.runs() != "" {
			}
		}()
		for dead := false; !dead && !ended; {
			select {
			case <-died:
				dead = true
				deaths++
			case <-time.After(50 * time.Millisecond):
				s, err := c.Status(t.Context(), "poison")
				ended = err == nil && s.State == job.Failed
			}
		}
		if deaths > 3 {
			t.Fatalf("%d workers have died", deaths)
		}
	}
	if s := waitState(t, c, "poison", job.Failed); deaths != 3 || s.ErrorCode != job.Internal || s.ResultKey == "" {
		t.Errorf("%d workers have died; the status is %+v", deaths, s)
	}
	for i := range 4 {
		waitState(t, c, fmt.Sprint("healthy-", i), job.Done)
		waitState(t, c, fmt.Sprint("fine-", i), job.Done)
	}
	checkResidue(t, r)
}
