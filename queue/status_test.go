package queue_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// Whatever is written in whatever order, a final state stays and an older
// attempt is not heard but for the end.
func TestStatusNeverGoesBack(t *testing.T) {
	for name, addr := range map[string]string{
		"miniredis": miniredis.RunT(t).Addr(),
		"redis":     testservices.StartRedis(t, testservices.RedisOptions{}).Addr,
	} {
		t.Run(name, func(t *testing.T) {
			at := queue.Connection{URL: addr}
			r, c := inspect(t, at), client(t, at)
			ctx := context.Background()
			states := rapid.SampledFrom([]job.State{job.Queued, job.Running, job.Running, job.Running, job.Done, job.Failed, job.Cancelled, job.Erased})
			rapid.Check(t, func(t *rapid.T) {
				id := queue.NewID()
				var want queue.Status
				for range rapid.IntRange(1, 30).Draw(t, "writes") {
					s := queue.Status{ID: id, State: states.Draw(t, "state"), Attempt: rapid.IntRange(0, 12).Draw(t, "attempt"),
						Step: rapid.IntRange(0, 3).Draw(t, "step"), Stage: rapid.SampledFrom([]job.Stage{"", job.StageDenoise}).Draw(t, "stage")}
					set, err := queue.PutStatus(ctx, r, s)
					if err != nil {
						t.Fatal(err)
					}
					if allowed := !want.State.Final() && (s.State.Final() || s.Attempt >= want.Attempt); set != allowed {
						t.Fatalf("%+v after %+v: set %v", s, want, set)
					}
					if set {
						want = s
					}
					got, err := c.Status(ctx, id)
					if err != nil {
						t.Fatal(err)
					}
					got.UpdatedAt = time.Time{}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatal(diff)
					}
				}
			})
		})
	}
}

// A worker that was taken for dead commits the job while another is at it. The
// task goes with the first, and the other may die without a word: the end must
// be told all the same.
func TestEndOfAnOlderAttempt(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		w := start(t, options(at, newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			_, err := queue.PutStatus(t.Context(), r, queue.Status{ID: "a", State: job.Running, Attempt: 2})
			return job.Outcome{State: job.Done}, err
		})))
		enqueue(t, c, "a")
		eventually(t, "asynq to let go of the task", func() bool { return len(leftovers(t, r)) == 0 })
		w.stop()
		if s, err := c.Status(t.Context(), "a"); err != nil || s.State != job.Done {
			t.Errorf("the status is %+v, %v", s, err)
		}
	})
}

func TestAttemptsAreCountedOnce(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r := inspect(t, at)
		begin := func(number, counted int) job.Attempt {
			t.Helper()
			a, n, err := queue.Begin(t.Context(), r, "a")
			if err != nil || a.Number != number || n != counted {
				t.Fatalf("attempt %d, %d count (%v), want %d, %d", a.Number, n, err, number, counted)
			}
			return a
		}
		begin(1, 1)
		second := begin(2, 2)
		for range 2 { // the reply of the first was lost
			if err := queue.Uncount(t.Context(), r, "a", second); err != nil {
				t.Fatal(err)
			}
		}
		begin(3, 2) // the number goes on, the count does not
		if err := queue.Uncount(t.Context(), r, "gone", second); err != nil {
			t.Fatal(err)
		}
		if n := r.Exists(t.Context(), "imgus:attempts:gone").Val(); n != 0 {
			t.Error("a key came back that has no expiry")
		}
	})
}

func TestProgressIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Time
		var steps []int
		p := queue.StartProgress(func(now job.Progress) {
			mu.Lock()
			defer mu.Unlock()
			at, steps = append(at, time.Now()), append(steps, now.Step)
		})
		for i := range 501 {
			p.Report(job.Progress{Stage: job.StageDenoise, Step: i, Steps: 500})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if last := steps[len(steps)-1]; last != 500 {
			t.Errorf("the last step is %d", last)
		}
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 200*time.Millisecond {
				t.Errorf("published %v after the one before", d)
			}
		}
		p.Report(job.Progress{Stage: job.StageVAE})
		p.Report(job.Progress{Stage: job.StageEncode})
		p.Close()
		n := len(at)
		p.Report(job.Progress{Stage: job.StageStore})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(at) != n || n < 20 || n > 30 {
			t.Errorf("%d were published, then %d", n, len(at))
		}
	})
}

// Who watches sees a job from the queue to its end, and each event is the hash.
func TestWatch(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		h := newHandler(func(_ context.Context, _ *job.Job, _ job.Attempt, report func(job.Progress)) (job.Outcome, error) {
			for i := range 20 {
				report(job.Progress{Stage: job.StageDenoise, Step: i + 1, Steps: 20})
				time.Sleep(20 * time.Millisecond)
			}
			return job.Outcome{State: job.Done}, nil
		})
		enqueue(t, c, "a")
		raw := r.Subscribe(t.Context(), "imgus:events:a")
		defer raw.Close()
		if _, err := raw.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		var seen []queue.Status
		for s, err := range c.Watch(t.Context(), "a") {
			if err != nil {
				t.Fatal(err)
			}
			if seen == nil {
				start(t, options(at, h))
			}
			seen = append(seen, s)
		}
		first, last := seen[0], seen[len(seen)-1]
		if first.State != job.Queued || first.Queue != "interactive" || last.State != job.Done || last.ResultKey == "" || last.Attempt != 1 {
			t.Errorf("from %+v to %+v", first, last)
		}
		stepped := false
		for i, s := range seen {
			stepped = stepped || s.State == job.Running && s.Step == 20 && s.Steps == 20
			if i > 0 && s.UpdatedAt.Before(seen[i-1].UpdatedAt) {
				t.Errorf("%+v came after %+v", s, seen[i-1])
			}
		}
		if !stepped {
			t.Error("the last step was not told")
		}
		events := raw.Channel()
		for {
			var fields map[string]any
			if err := json.Unmarshal([]byte((<-events).Payload), &fields); err != nil {
				t.Fatal(err)
			}
			if fields["state"] != "done" {
				continue
			}
			for name, value := range r.HGetAll(t.Context(), "imgus:job:a").Val() {
				if text, isText := fields[name].(string); isText && text != value || fields[name] == nil {
					t.Errorf("%s is %q in the hash, %v in the event", name, value, fields[name])
				}
			}
			break
		}
		// A job that has ended is told once.
		n := 0
		for s, err := range c.Watch(t.Context(), "a") {
			n++
			if err != nil || s.State != job.Done {
				t.Errorf("got %+v, %v", s, err)
			}
		}
		if n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}
