package queue_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/queue"
)

// Trouble that goes on keeps the worker away longer and longer, within bounds;
// several jobs that meet it together are one trouble.
func TestHoldOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h queue.HoldOff
		pause := func() time.Duration {
			began := time.Now()
			h.Trouble()
			h.Trouble()
			for !h.Over() {
				time.Sleep(100 * time.Millisecond)
			}
			return time.Since(began)
		}
		var got []time.Duration
		for range 6 {
			got = append(got, pause())
		}
		h.Fine()
		got = append(got, pause())
		const s = time.Second
		want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 15 * s, 15 * s, s}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		h.Trouble()
		h.Fine()
		if !h.Over() {
			t.Error("it holds off although all is fine")
		}
	})
}

// While Redis answers asynq but not us, which happens for a moment when it comes
// back, the queue is not emptied into the set of those that wait for a retry.
func TestHoldOffAtBegin(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{
		"user default on nopass ~* &* +@all",
		"user worker on >" + secret + " ~asynq:* ~imgus:worker:* &* +@all",
	}})
	all := queue.Connection{URL: server.Addr}
	c, r := client(t, all), inspect(t, all)
	for i := range 20 {
		enqueue(t, c, fmt.Sprintf("job-%d", i))
	}
	start(t, options(queue.Connection{URL: server.Addr, Username: "worker", Password: secret}, newHandler(done)))
	eventually(t, "a job to be put off", func() bool { return r.ZCard(t.Context(), "asynq:{interactive}:retry").Val() > 0 })
	time.Sleep(500 * time.Millisecond)
	if n := r.LLen(t.Context(), "asynq:{interactive}:pending").Val(); n < 15 {
		t.Errorf("only %d of 20 jobs are left in the queue", n)
	}
}
