package queue_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// BenchmarkIdleLatency measures the time from a producer's call to the start
// of the work, in a worker that has nothing to do.
func BenchmarkIdleLatency(b *testing.B) {
	at := queue.Connection{URL: testservices.StartRedis(b, testservices.RedisOptions{}).Addr}
	began := make(chan time.Time, 1)
	h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
		began <- time.Now()
		return job.Outcome{State: job.Done}, nil
	})
	start(b, options(at, h))
	c := client(b, at)
	var took []time.Duration
	for b.Loop() {
		time.Sleep(60 * time.Millisecond) // so that calls fall anywhere between two polls
		called := time.Now()
		if _, err := c.Enqueue(b.Context(), newJob(queue.NewID()), "interactive"); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-began).Sub(called))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}

// A15: an idle worker asks for work far more often than once a second, as asynq
// does, so that nobody waits for the next time.
func TestIdleWorkerAsksOften(t *testing.T) {
	t.Parallel()
	at := queue.Connection{URL: testservices.StartRedis(t, testservices.RedisOptions{}).Addr}
	w := start(t, options(at, newHandler(done)))
	eventually(t, "the worker to be ready", w.Ready)
	r := inspect(t, at)
	r.ConfigResetStat(t.Context())
	time.Sleep(4 * time.Second)
	match := regexp.MustCompile(`cmdstat_evalsha:calls=(\d+)`).FindStringSubmatch(r.Info(t.Context(), "commandstats").Val())
	if match == nil {
		t.Fatal("no script ran")
	}
	// Two queues asked once a second, and all that is done beside that, come to 30.
	if n, _ := strconv.Atoi(match[1]); n < 60 {
		t.Errorf("%d scripts in 4 seconds", n)
	}
}
