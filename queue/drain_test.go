package queue_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func enqueueForeign(t *testing.T, r redis.UniversalClient, id string, timeout int) {
	t.Helper()
	foreign(t, r, id, asynq.Timeout(time.Duration(timeout)*time.Second))
}

// foreign enqueues a job as another program may.
func foreign(t *testing.T, r redis.UniversalClient, id string, options ...asynq.Option) {
	t.Helper()
	payload := `{"version":1,"id":"` + id + `","kind":"text-to-image","model":"demo","prompt":"` + secret + `"}`
	if _, err := asynq.NewClientFromRedisClient(r).Enqueue(asynq.NewTask(job.TaskType, []byte(payload)),
		append([]asynq.Option{asynq.TaskID(id), asynq.Queue("interactive")}, options...)...); err != nil {
		t.Fatal(err)
	}
}

// Told to stop, a worker finishes what it has and takes nothing more.
func TestDrainFinishesTheJobInHand(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		running, finish := make(chan struct{}, 1), make(chan struct{})
		h := newHandler(func(ctx context.Context, _ *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
			running <- struct{}{}
			select {
			case <-finish:
				return job.Outcome{State: job.Done}, nil
			case <-ctx.Done():
				return job.Outcome{}, context.Cause(ctx)
			}
		})
		w := start(t, options(at, h))
		enqueue(t, c, "a")
		<-running
		enqueue(t, c, "b")
		w.tell()
		time.Sleep(300 * time.Millisecond)
		select {
		case <-w.done:
			t.Fatal("it did not wait")
		default:
		}
		close(finish)
		<-w.done
		waitState(t, c, "a", job.Done)
		if n, _ := h.seen("b"); len(n) != 0 {
			t.Error("it took another job")
		}
		if list := r.LRange(t.Context(), "asynq:{interactive}:pending", 0, -1).Val(); len(list) != 1 || list[0] != "b" {
			t.Errorf("pending: %v", list)
		}
	})
}

// A4: what does not end within the grace period is handed back when it has
// really ended, to the head of the queue, uncounted; another worker has it at
// once.
func TestDrainHandsBack(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		running, ended := make(chan struct{}, 2), atomic.Int32{}
		h := newHandler(func(ctx context.Context, _ *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
			running <- struct{}{}
			<-ctx.Done()
			time.Sleep(time.Second) // a step that cannot be interrupted
			ended.Add(1)
			return job.Outcome{}, context.Cause(ctx)
		})
		opts := options(at, h)
		opts.Concurrency, opts.MaxAttempts, opts.ShutdownGrace = 2, 1, 200*time.Millisecond
		w := start(t, opts)
		enqueue(t, c, "a")
		enqueueForeign(t, r, "b", 60)
		<-running
		<-running
		enqueue(t, c, "c")
		w.stop()
		if n := ended.Load(); n != 2 {
			t.Errorf("it stopped when %d of 2 handlers had ended", n)
		}
		if list := r.LRange(t.Context(), "asynq:{interactive}:pending", 0, -1).Val(); len(list) != 3 || list[0] != "c" {
			t.Errorf("pending, last first: %v", list)
		}
		for _, id := range []string{"a", "b"} {
			if s := waitState(t, c, id, job.Queued); s.Attempt != 1 || s.ErrorCode != "" {
				t.Errorf("%+v", s)
			}
			if n := r.HGet(t.Context(), "imgus:attempts:"+id, "counted").Val(); n != "0" {
				t.Errorf("%s attempts count", n)
			}
		}
		if n := r.Exists(t.Context(), "asynq:{interactive}:retry", "asynq:{interactive}:active", "asynq:{interactive}:lease").Val(); n != 0 {
			t.Error("asynq still holds a task")
		}
		opts.Handler = newHandler(done)
		start(t, opts)
		for _, id := range []string{"a", "b", "c"} {
			waitState(t, c, id, job.Done)
		}
		checkResidue(t, r)
	})
}

// Hurried, it does not use up its grace.
func TestHurry(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		opts := options(at, newHandler(polite))
		opts.ShutdownGrace = time.Hour
		w := start(t, opts)
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Running)
		w.tell()
		w.Hurry()
		w.Hurry()
		<-w.done
		if list := r.LRange(t.Context(), "asynq:{interactive}:pending", 0, -1).Val(); len(list) != 1 || r.HGet(t.Context(), "imgus:attempts:a", "counted").Val() != "0" {
			t.Errorf("pending: %v", list)
		}
	})
}

// While the gate is closed no job is taken.
func TestGate(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		var closed atomic.Bool
		closed.Store(true)
		c, h := client(t, at), newHandler(done)
		opts := options(at, h)
		opts.Gate = func() error {
			if closed.Load() {
				return job.Errorf(job.StorageUnavailable, "away")
			}
			return nil
		}
		w := start(t, opts)
		enqueue(t, c, "a")
		eventually(t, "the worker to serve", func() bool { return w.Checks()["queue"] == nil })
		time.Sleep(500 * time.Millisecond)
		if n, _ := h.seen("a"); len(n) > 0 || w.Ready() {
			t.Errorf("tried %d times, ready: %v", len(n), w.Ready())
		}
		closed.Store(false)
		waitState(t, c, "a", job.Done)
		if !w.Ready() {
			t.Error("not ready")
		}
	})
}

// While a job runs, its prompt is in its task alone, and the worker gives a
// sign of life.
func TestSignOfLife(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		w := start(t, options(at, newHandler(polite)))
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Running)
		signs := func(pattern string) []string { return r.Keys(t.Context(), pattern).Val() }
		eventually(t, "asynq's list of what runs", func() bool {
			list := signs("asynq:workers:{*")
			return len(list) == 1 && r.HExists(t.Context(), list[0], "a").Val()
		})
		for _, key := range keys(t, r) {
			if key != "asynq:{interactive}:t:a" && containsSecret(t, r, key) {
				t.Errorf("%s holds the prompt", key)
			}
		}
		mine := signs("imgus:worker:*")
		if len(mine) != 1 {
			t.Fatalf("signs of life: %v", mine)
		}
		if ttl := r.TTL(t.Context(), mine[0]).Val(); ttl <= 0 || ttl > 15*time.Second {
			t.Errorf("it expires in %v", ttl)
		}
		if _, err := c.Cancel(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		waitState(t, c, "a", job.Cancelled)
		w.stop()
		if mine := signs("imgus:worker:*"); len(mine) != 0 {
			t.Errorf("signs of life of the dead: %v", mine)
		}
	})
}

// A4: workers are told to stop at random moments, with grace and without, and
// others start in their place. No job is lost, none is at two places at once,
// and none spends an attempt.
func TestDrainAtRandomMoments(t *testing.T) {
	t.Parallel()
	at := queue.Connection{URL: testservices.StartRedis(t, testservices.RedisOptions{}).Addr}
	c, r := client(t, at), inspect(t, at)
	var mu sync.Mutex
	running := map[string]int{}
	h := newHandler(func(ctx context.Context, j *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
		mu.Lock()
		running[j.ID]++
		if n := running[j.ID]; n > 1 {
			t.Errorf("%s runs %d times at once", j.ID, n)
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			running[j.ID]--
			mu.Unlock()
		}()
		for range rand.IntN(8) {
			time.Sleep(50 * time.Millisecond) // a step that cannot be interrupted
			if ctx.Err() != nil {
				return job.Outcome{}, context.Cause(ctx)
			}
		}
		return job.Outcome{State: job.Done}, nil
	})
	opts := options(at, h)
	opts.Concurrency, opts.MaxAttempts = 3, 1
	const jobs, stops = 150, 20
	for i := range jobs {
		enqueue(t, c, fmt.Sprint("job-", i))
	}
	workers := [2]worker{}
	for i := range workers {
		workers[i] = start(t, opts)
	}
	for i := range stops {
		time.Sleep(rand.N(400 * time.Millisecond))
		workers[i%2].stop()
		opts.ShutdownGrace = []time.Duration{0, 50 * time.Millisecond, time.Second}[rand.IntN(3)]
		workers[i%2] = start(t, opts)
	}
	for i := range jobs {
		id := fmt.Sprint("job-", i)
		waitState(t, c, id, job.Done)
		if _, refused := h.seen(id); refused != nil {
			t.Errorf("%s was refused: %v", id, refused)
		}
	}
	checkResidue(t, r)
}
