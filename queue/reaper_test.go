package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// strand leaves a job as a dead worker does: active, with a lease that expired
// long ago.
func strand(t *testing.T, r redis.UniversalClient, id string) {
	t.Helper()
	enqueueForeign(t, r, id, 60)
	ctx := t.Context()
	r.LRem(ctx, "asynq:{interactive}:pending", 0, id)
	r.LPush(ctx, "asynq:{interactive}:active", id)
	r.HSet(ctx, "asynq:{interactive}:t:"+id, "state", "active")
	r.ZAdd(ctx, "asynq:{interactive}:lease", redis.Z{Score: 1, Member: id})
}

func hastened(c *queue.Consumer) { c.Hasten() }

// A2: entries that nobody can read are removed wherever they stand, and keep
// nobody else from being recovered. Without the reaper, and with asynq's
// recoverer in its place, none of this happens: that gives up at the first.
func TestUnreadableEntries(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c, ctx := inspect(t, at), client(t, at), t.Context()
		key := func(suffix string) string { return "asynq:{interactive}:" + suffix }
		strand(t, r, "good")
		strand(t, r, "garbage")
		r.HSet(ctx, key("t:garbage"), "msg", "\xff"+secret)
		strand(t, r, "another") // holds the message of good
		r.HSet(ctx, key("t:another"), "msg", r.HGet(ctx, key("t:good"), "msg").Val())
		strand(t, r, "missing")
		r.Del(ctx, key("t:missing"))
		strand(t, r, "no-hash")
		r.Del(ctx, key("t:no-hash"))
		r.Set(ctx, key("t:no-hash"), secret, 0)
		r.ZAdd(ctx, key("lease"), redis.Z{Score: 2, Member: "../" + secret})
		r.LPush(ctx, key("pending"), "pending-missing", "pending-garbage", "pending-no-hash")
		r.HSet(ctx, key("t:pending-garbage"), "msg", "\x0a\x05"+secret, "state", "pending")
		r.Set(ctx, key("t:pending-no-hash"), secret, 0)
		r.ZAdd(ctx, key("retry"), redis.Z{Score: 3, Member: "retry-no-hash"}, redis.Z{Score: 4, Member: "retry-missing"})
		r.Set(ctx, key("t:retry-no-hash"), secret, 0)
		r.ZAdd(ctx, key("archived"), redis.Z{Score: 5, Member: "archived-garbage"}, redis.Z{Score: 6, Member: "archived-missing"})
		r.HSet(ctx, key("t:archived-garbage"), "msg", "\xff", "state", "archived")
		const unreadable = 12
		h, drops, log := newHandler(done), make(dropped, 100), &logged{}
		opts := options(at, h)
		opts.Observer, opts.Log = drops, log.logger()
		w := start(t, opts, hastened)
		for range unreadable {
			select {
			case <-drops:
			case <-time.After(30 * time.Second):
				t.Fatalf("still there: %v", leftovers(t, r))
			}
		}
		waitState(t, c, "good", job.Done)
		enqueue(t, c, "next")
		waitState(t, c, "next", job.Done)
		checkResidue(t, r)
		w.stop()
		if len(drops) > 0 {
			t.Errorf("%d more were dropped; the log says %s", len(drops), log)
		}
		if strings.Contains(log.String(), secret) {
			t.Error("the log tells an entry")
		}
	})
}

// Who waits for a job that nobody can read any more is told.
func TestUnreadableJobIsEnded(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c, h := inspect(t, at), client(t, at), newHandler(done)
		enqueue(t, c, "a")
		r.HSet(t.Context(), "asynq:{interactive}:t:a", "msg", "\xff"+secret)
		failing := true
		h.refuse = func(*job.Error) error {
			if failing {
				failing = false
				return job.Errorf(job.StorageUnavailable, "away")
			}
			return nil
		}
		if err := c.Sweep(t.Context(), []string{"interactive"}, false, func(queue.Leftover) {}); err != nil {
			t.Error(err) // it waits in its queue yet
		}
		start(t, options(at, h), hastened)
		s := waitState(t, c, "a", job.Failed)
		if s.ErrorCode != job.InvalidJob || s.ResultKey == "" || s.Queue != "interactive" {
			t.Errorf("the status is %+v", s)
		}
		checkResidue(t, r)
		if _, refused := h.seen("a"); len(refused) != 2 {
			t.Errorf("refused %d times", len(refused))
		}
	})
}

// A5, A10, and what asynq would never do: each job comes back and is done.
func TestNobodysJobsComeBack(t *testing.T) {
	tests := map[string]func(t *testing.T, r redis.UniversalClient){
		"dead":          func(*testing.T, redis.UniversalClient) {},
		"without lease": func(t *testing.T, r redis.UniversalClient) { r.Del(t.Context(), "asynq:{interactive}:lease") },
		"lease alone":   func(t *testing.T, r redis.UniversalClient) { r.Del(t.Context(), "asynq:{interactive}:active") },
		"archived": func(t *testing.T, r redis.UniversalClient) { // as by asynq's recoverer
			r.Del(t.Context(), "asynq:{interactive}:lease", "asynq:{interactive}:active")
			r.ZAdd(t.Context(), "asynq:{interactive}:archived", redis.Z{Score: float64(time.Now().Unix()), Member: "a"})
			r.HSet(t.Context(), "asynq:{interactive}:t:a", "state", "archived")
		},
		"group": func(t *testing.T, r redis.UniversalClient) {
			r.FlushAll(t.Context())
			foreign(t, r, "a", asynq.Group("g"))
		},
	}
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c := inspect(t, at), client(t, at)
		for name, change := range tests {
			t.Run(name, func(t *testing.T) {
				r.FlushAll(t.Context())
				strand(t, r, "a")
				change(t, r)
				h := newHandler(done)
				w := start(t, options(at, h), hastened)
				waitState(t, c, "a", job.Done)
				checkResidue(t, r)
				w.stop()
				if n, _ := h.seen("a"); len(n) != 1 {
					t.Errorf("tried %d times", len(n))
				}
			})
		}
	})
}

// What a sweep by hand finds, it finds in a dry run too, which changes nothing.
// A live worker's job is not among it.
func TestSweep(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, c, ctx := inspect(t, at), client(t, at), t.Context()
		w := start(t, options(at, newHandler(polite)), (*queue.Consumer).DoNotReap)
		enqueue(t, c, "alive")
		waitState(t, c, "alive", job.Running)
		strand(t, r, "dead")
		strand(t, r, "garbage")
		r.HSet(ctx, "asynq:{interactive}:t:garbage", "msg", "\xff"+secret)
		r.ZAdd(ctx, "asynq:{batch}:archived", redis.Z{Score: 1, Member: "../" + secret})
		sweep := func(dry bool) (found []string) {
			t.Helper()
			err := c.Sweep(ctx, []string{"interactive", "batch"}, dry, func(l queue.Leftover) {
				found = append(found, fmt.Sprintf("%s/%s %v", l.Queue, l.ID, l.Unreadable))
			})
			if err != nil {
				t.Error(err)
			}
			slices.Sort(found)
			return found
		}
		before := leftovers(t, r)
		want := []string{"batch/ true", "interactive/dead false", "interactive/garbage true"}
		if diff := cmp.Diff(want, sweep(true)); diff != "" {
			t.Errorf("dry: %s", diff)
		}
		if diff := cmp.Diff(before, leftovers(t, r), cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("a dry sweep changed something: %s", diff)
		}
		if diff := cmp.Diff(want, sweep(false)); diff != "" {
			t.Error(diff)
		}
		if found := sweep(false); len(found) > 0 {
			t.Errorf("left are %v", found)
		}
		for _, id := range []string{"alive", "dead"} {
			waitState(t, c, id, job.Running)
			if _, err := c.Cancel(ctx, id); err != nil {
				t.Error(err)
			}
			waitState(t, c, id, job.Cancelled)
		}
		checkResidue(t, r)
		w.stop()
	})
}

// A5 at the end of a job: asynq's script removes one entry, misses the other
// and leaves the payload, unless the lease is put back before.
func TestLeaseLostAtTheEnd(t *testing.T) {
	for name, defended := range map[string]bool{"defended": true, "undefended": false} {
		t.Run(name, func(t *testing.T) {
			servers(t, func(t *testing.T, at queue.Connection) {
				c, r := client(t, at), inspect(t, at)
				h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
					r.Del(t.Context(), "asynq:{interactive}:lease")
					return job.Outcome{State: job.Done}, nil
				})
				w := start(t, options(at, h), func(c *queue.Consumer) {
					c.DoNotReap()
					if !defended {
						c.KeepLeases()
					}
				})
				enqueue(t, c, "a")
				waitState(t, c, "a", job.Done)
				w.stop()
				if left := leftovers(t, r); (len(left) == 0) != defended {
					t.Errorf("left: %v", left)
				}
			})
		})
	}
}

// A hash that stands in no list any more goes, through the queue: if its job
// had not ended, it is not lost.
func TestOrphanHash(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			time.Sleep(1500 * time.Millisecond) // the reapers have seen it
			r.Del(t.Context(), "asynq:{interactive}:lease", "asynq:{interactive}:active")
			return job.Outcome{State: job.Done}, nil
		})
		start(t, options(at, h), hastened)
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Done)
		h.mu.Lock()
		h.process = done
		h.mu.Unlock()
		checkResidue(t, r)
		if n, _ := h.seen("a"); len(n) != 2 {
			t.Errorf("seen %d times", len(n))
		}
	})
}

// A5, R11: a list is lost, by eviction or in a failover, before any worker of now
// has seen its tasks. Their hashes are found, and what can be read is done.
func TestLostLists(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r, ctx := client(t, at), inspect(t, at), t.Context()
		for _, id := range []string{"a", "b"} {
			enqueue(t, c, id)
		}
		strand(t, r, "was-active")
		foreign(t, r, "unique", asynq.Unique(time.Hour))
		r.HSet(ctx, "asynq:{interactive}:t:garbage", "msg", "\xff"+secret, "state", "pending")
		r.Del(ctx, "asynq:{interactive}:pending", "asynq:{interactive}:active", "asynq:{interactive}:lease")
		enqueue(t, c, "standing")
		if s, err := c.Status(ctx, "a"); err != nil || s.State != job.Queued {
			t.Errorf("status is %+v, %v", s, err)
		}

		var found []queue.Leftover
		if err := c.Sweep(ctx, []string{"interactive"}, true, func(l queue.Leftover) { found = append(found, l) }); err != nil {
			t.Fatal(err)
		}
		if len(found) != 5 {
			t.Errorf("a dry sweep finds %+v", found)
		}
		h := newHandler(done)
		w := start(t, options(at, h), hastened)
		for _, id := range []string{"a", "b", "was-active", "unique", "standing"} {
			waitState(t, c, id, job.Done)
			if n, _ := h.seen(id); len(n) != 1 {
				t.Errorf("%s was seen %d times", id, len(n))
			}
		}
		checkResidue(t, r)
		w.stop()
	})
}

// A sweep by hand does the same, without a worker; and many are put back in turn.
func TestSweepOfLostLists(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r, ctx := client(t, at), inspect(t, at), t.Context()
		const jobs = 1100
		for i := range jobs {
			enqueueForeign(t, r, fmt.Sprint("job-", i), 60)
		}
		r.LTrim(ctx, "asynq:{interactive}:pending", 0, 49) // some stand
		n := 0
		if err := c.Sweep(ctx, []string{"interactive"}, false, func(queue.Leftover) { n++ }); err != nil || n != jobs-50 {
			t.Errorf("found %d, %v", n, err)
		}
		if n := r.LLen(ctx, "asynq:{interactive}:pending").Val(); n != jobs {
			t.Errorf("%d are pending", n)
		}
	})
}

// A12: a task that is deleted under its worker's hands stays deleted, whatever
// the job still tells.
func TestDeletedTaskStaysDeleted(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		h := newHandler(func(_ context.Context, _ *job.Job, _ job.Attempt, report func(job.Progress)) (job.Outcome, error) {
			r.Del(t.Context(), "asynq:{interactive}:t:a", "asynq:{interactive}:lease", "asynq:{interactive}:active")
			report(job.Progress{Stage: job.StageDenoise, Step: 1, Steps: 2})
			return job.Outcome{State: job.Done}, nil
		})
		w := start(t, options(at, h))
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Done)
		w.stop()
		if left := leftovers(t, r); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// A11: a worker with a wrong clock would take every lease for expired, and
// asynq's recoverer is asked at its start. The job stays where it is.
func TestRecovererStealsNothing(t *testing.T) {
	for name, defended := range map[string]bool{"defended": true, "undefended": false} {
		t.Run(name, func(t *testing.T) {
			servers(t, func(t *testing.T, at queue.Connection) {
				c, r := client(t, at), inspect(t, at)
				end := make(chan struct{})
				h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
					<-end
					return job.Outcome{State: job.Done}, nil
				})
				start(t, options(at, h))
				enqueue(t, c, "a")
				waitState(t, c, "a", job.Running)
				r.ZAdd(t.Context(), "asynq:{interactive}:lease", redis.Z{Score: 1, Member: "a"})
				idle := options(at, h)
				idle.Queues = map[string]int{"interactive": 1}
				start(t, idle, func(c *queue.Consumer) {
					if !defended {
						c.KeepRecoverer()
					}
				})
				time.Sleep(time.Second)
				active := r.LRange(t.Context(), "asynq:{interactive}:active", 0, -1).Val()
				if kept := len(active) == 1; kept != defended {
					t.Errorf("the task stayed where it was: %v", kept)
				}
				close(end)
				waitState(t, c, "a", job.Done)
				if h.atOnce() != 1 {
					t.Errorf("%d at the same job at once", h.atOnce())
				}
			})
		})
	}
}

// Whatever asynq delivers, a job that a live worker has is begun nowhere else.
func TestOneOwner(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			time.Sleep(3 * time.Second)
			return job.Outcome{State: job.Done}, nil
		})
		for range 2 {
			start(t, options(at, h))
		}
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Running)
		r.LRem(t.Context(), "asynq:{interactive}:active", 0, "a")
		r.LPush(t.Context(), "asynq:{interactive}:pending", "a")
		waitState(t, c, "a", job.Done)
		if h.atOnce() != 1 {
			t.Errorf("%d at once", h.atOnce())
		}
	})
}

// A live worker's job stays its own, however long it takes and whatever the
// lease says; a dead one's stays for a while after Redis came into reach, when
// the signs of the living may have expired too.
func TestReaperLeavesAlone(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c, r := client(t, at), inspect(t, at)
		h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			time.Sleep(4 * time.Second)
			return job.Outcome{State: job.Done}, nil
		})
		w := start(t, options(at, h))
		enqueue(t, c, "a")
		waitState(t, c, "a", job.Running)
		start(t, options(at, h), func(c *queue.Consumer) { c.Hasten(); c.Impatient() })
		for range 20 {
			r.ZAdd(t.Context(), "asynq:{interactive}:lease", redis.Z{Score: 1, Member: "a"})
			time.Sleep(100 * time.Millisecond)
			if state := r.HGet(t.Context(), "asynq:{interactive}:t:a", "state").Val(); state != "active" {
				t.Fatalf("the job of a live worker is %q", state)
			}
		}
		waitState(t, c, "a", job.Done)
		w.stop()
		if n, _ := h.seen("a"); len(n) != 1 {
			t.Errorf("begun %d times", len(n))
		}
	})
	t.Run("fresh", func(t *testing.T) {
		servers(t, func(t *testing.T, at queue.Connection) {
			r, h := inspect(t, at), newHandler(done)
			strand(t, r, "a")
			start(t, options(at, h), (*queue.Consumer).Impatient).tell()
			w := start(t, options(at, h), (*queue.Consumer).Impatient)
			eventually(t, "the worker to be ready", w.Ready)
			time.Sleep(3 * time.Second)
			if n, _ := h.seen("a"); len(n) != 0 {
				t.Error("it judged before the living could give a sign")
			}
		})
	})
}

// The scripts touch nothing that has changed since it was looked at: a worker
// extended the lease, asynq moved the task, somebody enqueued it anew.
func TestReaperActsOnWhatItSaw(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		r, ctx := inspect(t, at), t.Context()
		const task = "asynq:{interactive}:t:a"
		strand(t, r, "a")
		before := dump(t, r, task)
		for _, tt := range []struct{ state, lease string }{{"active", "2"}, {"active", ""}, {"retry", "1"}, {"", "1"}} {
			if back, err := queue.Requeue(ctx, r, "interactive", "a", tt.state, tt.lease); err != nil || back {
				t.Errorf("taken back as %q with lease %q: %v", tt.state, tt.lease, err)
			}
		}
		message := r.HGet(ctx, task, "msg").Val()
		for _, tt := range []struct{ message, lease string }{{"", "1"}, {message + "x", "1"}, {message, "2"}, {message, ""}} {
			if gone, err := queue.Quarantine(ctx, r, "interactive", "a", tt.message, tt.lease); err != nil || gone {
				t.Errorf("deleted with lease %q: %v", tt.lease, err)
			}
		}
		if now := dump(t, r, task); now != before {
			t.Errorf("%s became %s", before, now)
		}
		if back, err := queue.Requeue(ctx, r, "interactive", "a", "active", "1"); err != nil || !back {
			t.Errorf("not taken back: %v", err)
		}
		if list := r.LRange(ctx, "asynq:{interactive}:pending", 0, -1).Val(); len(list) != 1 || list[0] != "a" {
			t.Errorf("pending: %v", list)
		}
		// It waits: a second look changes nothing but stray entries.
		r.ZAdd(ctx, "asynq:{interactive}:lease", redis.Z{Score: 1.5, Member: "a"})
		if back, err := queue.Requeue(ctx, r, "interactive", "a", "pending", "1.5"); err != nil || back {
			t.Errorf("put back twice: %v", err)
		}
		if gone, err := queue.Quarantine(ctx, r, "interactive", "a", message, ""); err != nil || !gone || len(leftovers(t, r)) > 0 {
			t.Errorf("not deleted: %v, left %v", err, leftovers(t, r))
		}
	})
}
