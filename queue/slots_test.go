package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// There are never more at work than slots, and never two at the same job, of
// which asynq may deliver a second while the first still runs.
func TestSlotsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := queue.NewSlots(3)
		var mu sync.Mutex
		var all sync.WaitGroup
		working, most := map[string]int{}, 0
		for i := range 200 {
			id := fmt.Sprint("job-", i%7)
			all.Go(func() {
				if _, err := s.Take(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
				defer s.Leave(id)
				mu.Lock()
				working[id]++
				n := 0
				for _, at := range working {
					n += at
				}
				most = max(most, n)
				if working[id] > 1 {
					t.Errorf("two work on %s", id)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				working[id]--
				mu.Unlock()
			})
		}
		all.Wait()
		if most != 3 {
			t.Errorf("%d at work in 3 slots", most)
		}
		if err := s.Idle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Work outlives the context of its delivery; what waits does not.
func TestSlotsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := queue.NewSlots(1)
		ctx, cancel := context.WithCancel(t.Context())
		work, err := s.Take(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		given := make(chan error, 2)
		go func() {
			_, err := s.Take(ctx, "b") // no slot
			given <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-given; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if work.Err() != nil {
			t.Error("the work ended with its delivery")
		}
		for _, id := range []string{"a", "b"} { // the same job, and no slot
			go func() {
				_, err := s.Take(t.Context(), id)
				given <- err
			}()
		}
		synctest.Wait()
		s.Close()
		for range 2 {
			if err := <-given; !errors.Is(err, job.ErrShutdown) {
				t.Errorf("got %v", err)
			}
		}
		if !errors.Is(context.Cause(work), job.ErrShutdown) {
			t.Errorf("the work ended with %v", context.Cause(work))
		}
		s.Leave("a")
		if _, err := s.Take(t.Context(), "c"); !errors.Is(err, job.ErrShutdown) {
			t.Errorf("after the end: %v", err)
		}
	})
}
