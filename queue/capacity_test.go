package queue_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// While devices are away no more jobs are taken than the others can work on;
// one in hand stays, and the rest are left for other workers.
func TestCapacity(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		const jobs = 12
		for i := range jobs {
			enqueue(t, c, fmt.Sprint("job-", i))
		}
		var capacity atomic.Int32
		work := make(chan struct{})
		h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			<-work
			return job.Outcome{State: job.Done}, nil
		})
		end := sync.OnceFunc(func() { close(work) })
		opts := options(at, h)
		opts.Concurrency = 4
		opts.Capacity = func() int { return int(capacity.Load()) }
		w := start(t, opts)
		t.Cleanup(end)
		waiting := func() int { return int(r.LLen(t.Context(), "asynq:{interactive}:pending").Val()) }

		eventually(t, "the worker to serve", w.Ready)
		time.Sleep(300 * time.Millisecond) // several looks at the queue
		if n := waiting(); n != jobs {
			t.Errorf("%d jobs were taken that nobody can work on", jobs-n)
		}
		for _, n := range []int{1, 3, 4, 9} {
			capacity.Store(int32(n))
			want := min(n, opts.Concurrency)
			eventually(t, fmt.Sprint("jobs for a capacity of ", n), func() bool { return h.running() == want })
			time.Sleep(300 * time.Millisecond)
			if got := jobs - waiting(); got != want {
				t.Errorf("%d jobs are in hand at a capacity of %d", got, n)
			}
		}
		capacity.Store(2)
		work <- struct{}{} // one ends, and three are too many already
		eventually(t, "a job to end", func() bool { return h.running() == 3 })
		time.Sleep(300 * time.Millisecond)
		if got := jobs - waiting(); got != 4 {
			t.Errorf("%d jobs were taken in all when one had ended", got)
		}
		end()
		for i := range jobs {
			waitState(t, c, fmt.Sprint("job-", i), job.Done)
		}
		if most := h.atOnce(); most != 4 {
			t.Errorf("%d jobs at once", most)
		}
	})
}
