package storage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

func TestWatchedIsABucket(t *testing.T) {
	storagetest.Accept(t, func(*testing.T) storage.Bucket {
		return storage.Watch(storagetest.Memory(), storage.WatchOptions{Log: slog.New(slog.DiscardHandler)})
	})
}

// watched is a bucket with faults, watched until the end of the test.
type watched struct {
	*storage.Watched

	faulty  *storagetest.FaultyBucket
	log     bytes.Buffer
	outages []bool
}

func watch(t *testing.T) *watched {
	w := &watched{faulty: storagetest.Faulty(storagetest.Memory())}
	w.Watched = storage.Watch(w.faulty, storage.WatchOptions{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Outage: func(away bool) { w.outages = append(w.outages, away) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

func (w *watched) calls() (n int) {
	for _, op := range []storagetest.Op{storagetest.Get, storagetest.Put, storagetest.PutIfAbsent, storagetest.Delete, storagetest.Stat, storagetest.List, storagetest.Check} {
		n += w.faulty.Calls(op)
	}
	return n
}

func away(context.Context, storagetest.Call) error { return storage.ErrUnavailable }

// While the storage is away it is asked by one alone, at most once a second; all
// others are told at once. It is said once, and so is the return.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.faulty.Before(away)
		use := func() error { return w.Put(t.Context(), "inputs/a", []byte("1"), storage.PutOptions{}) }
		if err := use(); !errors.Is(err, storage.ErrUnavailable) || w.Away() != nil {
			t.Fatalf("got %v, away: %v", err, w.Away())
		}
		synctest.Wait()
		if w.Away() == nil {
			t.Fatal("the storage is not taken for away")
		}
		before := w.calls()
		const seconds = 60
		for range 10 * seconds {
			if err := use(); !errors.Is(err, storage.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.calls() - before; n < seconds/5 || n > seconds/4 {
			t.Errorf("asked %d times in %d seconds", n, seconds)
		}
		w.faulty.Before(nil)
		back := time.Now()
		for use() != nil {
			time.Sleep(100 * time.Millisecond)
		}
		if d := time.Since(back); d > 5*time.Second { // by the test's clock, which stands still otherwise
			t.Errorf("back after %v only", d)
		}
		synctest.Wait()
		if diff := cmp.Diff([]bool{true, false}, w.outages); diff != "" || strings.Count(w.log.String(), "\n") != 2 {
			t.Errorf("told %v, logged %s", w.outages, w.log.String())
		}
	})
}

// A storage that hangs is away within seconds of the first operation that had no
// answer in its time, although nobody called it unavailable.
func TestHangingStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		hangs := func(ctx context.Context, _ storagetest.Call) error {
			<-ctx.Done()
			return ctx.Err()
		}
		w.faulty.Before(hangs)
		within, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		if _, err := w.Stat(within, storage.ProbeKey()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if w.Away() == nil || !strings.Contains(w.log.String(), "the storage is away") {
			t.Fatalf("away: %v, logged %s", w.Away(), w.log.String())
		}
		if _, err := w.Stat(t.Context(), storage.ProbeKey()); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("it is asked all the same: %v", err)
		}
		w.faulty.Before(nil)
		time.Sleep(9 * time.Second) // a question that hangs, and the longest pause
		synctest.Wait()
		if w.Away() != nil {
			t.Error(w.Away())
		}
		// So is one in which puts alone hang.
		w.faulty.Before(func(ctx context.Context, call storagetest.Call) error {
			if call.Op == storagetest.Put {
				return hangs(ctx, call)
			}
			return nil
		})
		within, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := w.Put(within, "inputs/a", []byte("1"), storage.PutOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if w.Away() == nil || !strings.Contains(w.log.String(), "takes no objects") {
			t.Errorf("away: %v, logged %s", w.Away(), w.log.String())
		}
	})
}

// A storage that is full is found out by a put of its own, takes nothing
// meanwhile, and lets go of what is deleted.
func TestFullStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		put := func() error { return w.Put(t.Context(), "inputs/a", []byte("1"), storage.PutOptions{}) }
		if err := put(); err != nil {
			t.Fatal(err)
		}
		w.faulty.Before(func(_ context.Context, call storagetest.Call) error {
			if call.Op == storagetest.Put || call.Op == storagetest.PutIfAbsent {
				return storage.ErrUnavailable
			}
			return nil
		})
		if err := put(); !errors.Is(err, storage.ErrUnavailable) || w.Away() != nil {
			t.Fatalf("got %v, away: %v", err, w.Away())
		}
		synctest.Wait()
		if w.Away() == nil {
			t.Fatal("a storage that takes nothing is taken for well")
		}
		puts := w.faulty.Calls(storagetest.Put)
		for range 600 {
			if err := w.PutIfAbsent(t.Context(), "results/a/result.json", []byte("1"), storage.PutOptions{}); !errors.Is(err, storage.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := w.faulty.Calls(storagetest.Put) - puts; n < 12 || n > 15 || w.faulty.Calls(storagetest.PutIfAbsent) > 0 {
			t.Errorf("tried %d times in a minute", n)
		}
		if _, err := w.Get(t.Context(), "inputs/a", 1); err != nil {
			t.Error(err)
		}
		if err := w.Delete(t.Context(), "inputs/a"); err != nil {
			t.Error(err)
		}
		w.faulty.Before(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if err := put(); err != nil || w.Away() != nil {
			t.Errorf("got %v, away: %v", err, w.Away())
		}
		for object, err := range w.List(t.Context(), storage.ProbePrefix) {
			t.Errorf("left: %s, %v", object.Key, err)
		}
		if diff := cmp.Diff([]bool{true, false}, w.outages); diff != "" || strings.Count(w.log.String(), "\n") != 2 {
			t.Errorf("told %v, logged %s", w.outages, w.log.String())
		}
	})
}

// What is wrong with one object alone is no outage.
func TestTroubleOfOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.faulty.Before(func(_ context.Context, call storagetest.Call) error {
			if call.Key == "inputs/forbidden" {
				return storage.ErrUnavailable
			}
			return nil
		})
		for range 3 {
			if _, err := w.Get(t.Context(), "inputs/forbidden", 10); !errors.Is(err, storage.ErrUnavailable) {
				t.Error(err)
			}
			for _, err := range w.List(t.Context(), "inputs/forbidden") {
				if !errors.Is(err, storage.ErrUnavailable) {
					t.Error(err)
				}
			}
			synctest.Wait()
			if _, err := w.Stat(t.Context(), "inputs/other"); !errors.Is(err, storage.ErrNotFound) {
				t.Error(err)
			}
		}
		if w.Away() != nil || len(w.outages) > 0 || w.log.Len() > 0 {
			t.Errorf("away: %v, told %v, logged %s", w.Away(), w.outages, w.log.String())
		}
	})
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t)
		w.faulty.Before(away)
		time.AfterFunc(time.Minute, func() { w.faulty.Before(nil) })
		began := time.Now()
		if err := w.Await(t.Context()); err != nil || time.Since(began) < time.Minute || w.Away() != nil {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if n := strings.Count(w.log.String(), "\n"); n != 2 {
			t.Errorf("logged %s", w.log.String())
		}
		unfit := errors.New("unfit")
		w.faulty.Before(storagetest.Fail(storagetest.Check, 1, unfit))
		if err := w.Await(t.Context()); !errors.Is(err, unfit) {
			t.Errorf("got %v", err)
		}
		w.faulty.Before(away)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := w.Await(ctx); err != nil || ctx.Err() == nil {
			t.Errorf("got %v", err)
		}
	})
}
