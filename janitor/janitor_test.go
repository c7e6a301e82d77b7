package janitor_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

func put(t *testing.T, b storage.Bucket, key, text string) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte(text), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, id string, state job.State, keys ...string) string {
	t.Helper()
	r := job.Record{Version: 1, ID: id, State: state}
	for _, key := range keys {
		r.Images = append(r.Images, job.Image{Key: key})
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// furnish fills a bucket with everything a sweep meets.
func furnish(t *testing.T, b storage.Bucket) {
	t.Helper()
	put(t, b, "results/done/win-0.png", "x")
	put(t, b, "results/done/lose-0.png", "x")
	put(t, b, "results/done/result.json", record(t, "done", job.Done, "results/done/win-0.png"))
	put(t, b, "results/done/deleted.json", "{}")
	put(t, b, "results/failed/a-0.png", "x")
	put(t, b, "results/failed/result.json", record(t, "failed", job.Failed))
	put(t, b, "results/running/a-0.png", "x")
	put(t, b, "results/strange/a-0.png", "x")
	put(t, b, "results/strange/result.json", "not a record")
	put(t, b, "inputs/running/input", "x")
	put(t, b, "probe/abc", "x")
}

func TestSweep(t *testing.T) {
	for name, tt := range map[string]struct {
		age  time.Duration
		gone []string
	}{
		"fresh":     {time.Minute, nil},
		"two hours": {2 * time.Hour, []string{"probe/abc", "results/done/lose-0.png", "results/failed/a-0.png"}},
		"two days":  {48 * time.Hour, []string{"probe/abc", "results/done/lose-0.png", "results/failed/a-0.png", "results/running/a-0.png"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := storagetest.Memory()
				furnish(t, b)
				time.Sleep(tt.age)
				j := janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)})
				before := b.Keys()
				for _, dry := range []bool{true, false} {
					var found []string
					if err := j.Sweep(t.Context(), dry, func(f janitor.Finding) { found = append(found, f.Key) }); err != nil {
						t.Fatal(err)
					}
					slices.Sort(found)
					if diff := cmp.Diff(tt.gone, found); diff != "" {
						t.Errorf("dry %v: %s", dry, diff)
					}
					if dry && !slices.Equal(before, b.Keys()) {
						t.Error("a dry sweep deleted something")
					}
				}
				left := slices.DeleteFunc(before, func(key string) bool { return slices.Contains(tt.gone, key) })
				if diff := cmp.Diff(left, b.Keys()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A storage that fails for one object does not keep the others.
func TestSweepGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Faulty(storagetest.Memory())
		furnish(t, b)
		time.Sleep(48 * time.Hour)
		b.Before(storagetest.Fail(storagetest.Delete, 1, storage.ErrUnavailable))
		j := janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)})
		n := 0
		if err := j.Sweep(t.Context(), false, func(janitor.Finding) { n++ }); !errors.Is(err, storage.ErrUnavailable) || n != 3 {
			t.Errorf("%d deleted, %v", n, err)
		}
		// Without the record nothing can be told apart.
		b.Before(storagetest.Fail(storagetest.Get, 1, storage.ErrUnavailable))
		if err := j.Sweep(t.Context(), false, func(janitor.Finding) { t.Error("deleted") }); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Memory()
		furnish(t, b)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
		}()
		time.Sleep(72 * time.Hour)
		cancel()
		<-ended
		if slices.Contains(b.Keys(), "results/done/lose-0.png") || !slices.Contains(b.Keys(), "results/done/win-0.png") {
			t.Errorf("left are %v", b.Keys())
		}
	})
}

// Jobs that were settled long ago are not asked about again, but by a sweep that
// is asked for.
func TestSettledJobsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Faulty(storagetest.Memory())
		furnish(t, b)
		time.Sleep(8 * 24 * time.Hour)
		put(t, b, "results/new/a-0.png", "x")
		put(t, b, "results/new/result.json", record(t, "new", job.Done))
		j := janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			j.Run(ctx)
		}()
		time.Sleep(24 * time.Hour)
		cancel()
		<-ended
		if n := b.Calls(storagetest.Get); n != 1 {
			t.Errorf("%d records were read", n)
		}
		n := 0
		if err := j.Sweep(t.Context(), false, func(janitor.Finding) { n++ }); err != nil || n != 3 {
			t.Errorf("%d deleted, %v", n, err)
		}
	})
}

// A record is read once, and again only when something of its job has changed.
func TestIntactJobsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Faulty(storagetest.Memory())
		put(t, b, "results/one/a-0.png", "x")
		put(t, b, "results/one/result.json", record(t, "one", job.Done, "results/one/a-0.png"))
		put(t, b, "results/two/a-0.png", "x")
		put(t, b, "results/two/result.json", record(t, "two", job.Done, "results/two/a-0.png"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
		}()
		time.Sleep(24 * time.Hour)
		if n := b.Calls(storagetest.Get); n != 2 {
			t.Errorf("%d records were read", n)
		}
		put(t, b, "results/one/late-0.png", "x") // by an attempt that lost
		time.Sleep(24 * time.Hour)
		if n := b.Calls(storagetest.Get); n < 3 || n > 8 { // some while the image is young, one after it is gone
			t.Errorf("%d records were read", n)
		}
		cancel()
		<-ended
		if _, err := b.Get(t.Context(), "results/one/late-0.png", 1); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("the late image is there: %v", err)
		}
		for _, key := range []string{"results/one/a-0.png", "results/two/a-0.png"} {
			if _, err := b.Get(t.Context(), key, 1); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}

// uploading is a bucket in which writers ended halfway.
type uploading struct {
	*storagetest.MemoryBucket

	uploads []storage.Upload
	denied  error
	aborted []string
}

func (b *uploading) Uploads(context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		for _, u := range b.uploads {
			if !yield(u, nil) {
				return
			}
		}
		if b.denied != nil {
			yield(storage.Upload{}, b.denied)
		}
	}
}

func (b *uploading) Abort(_ context.Context, u storage.Upload) error {
	b.aborted = append(b.aborted, u.ID)
	return nil
}

func TestAbandonedUploads(t *testing.T) {
	for name, denied := range map[string]error{"allowed": nil, "denied": storage.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &uploading{MemoryBucket: storagetest.Memory(), denied: denied}
				inner.uploads = []storage.Upload{{Key: "inputs/somebody's name.jpg", ID: "old", Size: 5, Begun: time.Now()}, {ID: "nameless", Begun: time.Now()}}
				time.Sleep(25 * time.Hour)
				inner.uploads = append(inner.uploads, storage.Upload{Key: "inputs/new", ID: "new", Begun: time.Now()})
				log := slog.New(slog.DiscardHandler)
				j := janitor.New(janitor.Options{Bucket: storage.Watch(inner, storage.WatchOptions{Log: log}), Log: log})
				var found []string
				for _, dry := range []bool{true, false} {
					found = nil
					if err := j.Sweep(t.Context(), dry, func(f janitor.Finding) { found = append(found, f.Key) }); err != nil {
						t.Fatal(err)
					}
					if dry && inner.aborted != nil {
						t.Error("a dry sweep aborted something")
					}
				}
				if diff := cmp.Diff([]string{"inputs/…", "…"}, found); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"old", "nameless"}, inner.aborted); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
