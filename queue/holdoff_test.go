package queue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
