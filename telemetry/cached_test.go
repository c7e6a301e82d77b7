package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgus/worker/inference"
)

// Whoever does not answer holds up no scrape, and is asked one question at a
// time.
func TestScrapeDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var questions atomic.Int32
		c := ask(func(ctx context.Context) (int, error) {
			questions.Add(1)
			<-ctx.Done()
			return 0, ctx.Err()
		})
		start := time.Now()
		for range 3 {
			if _, err := c.get(); !errors.Is(err, errNoAnswer) {
				t.Errorf("got %v", err)
			}
		}
		if waited := time.Since(start); waited > 3*patience || questions.Load() != 1 {
			t.Errorf("waited %s for %d questions", waited, questions.Load())
		}
		time.Sleep(asking)
		if _, err := c.get(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// An answer is used again while it is fresh, and forgotten when it is stale.
func TestAnswersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan int, 1)
		c := ask(func(ctx context.Context) (int, error) {
			select {
			case n := <-answers:
				return n, nil
			case <-ctx.Done():
				time.Sleep(time.Hour) // it does not listen
				return 0, ctx.Err()
			}
		})
		answers <- 1
		if n, err := c.get(); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		answers <- 2
		if n, _ := c.get(); n != 1 {
			t.Errorf("a fresh answer was not used again: %d", n)
		}
		time.Sleep(fresh)
		if n, _ := c.get(); n != 2 {
			t.Errorf("an old answer was used again: %d", n)
		}
		time.Sleep(fresh)
		if n, err := c.get(); n != 2 || err != nil {
			t.Errorf("no answer while there is a new question: %d, %v", n, err)
		}
		time.Sleep(stale)
		if _, err := c.get(); !errors.Is(err, errNoAnswer) {
			t.Errorf("a stale answer was used: %v", err)
		}
		time.Sleep(time.Hour)
	})
}

// Figures that nobody gives are left out, and that is a figure too.
func TestSilentEngine(t *testing.T) {
	m := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil })
	m.Engine(EngineSource{Status: func(context.Context) (inference.Status, error) { return inference.Status{}, errors.New("hangs") }})
	has := families(t, m)
	if _, ok := has["imgus_engine_answers"]; !ok {
		t.Error("it is not told that the engine is silent")
	}
	if _, ok := has["imgus_model_loads_total"]; ok {
		t.Error("figures of a silent engine")
	}
}
