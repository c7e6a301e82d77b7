package processor_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// keeping remembers the buffers that pass, as they are.
type keeping struct {
	storage.Bucket

	inner   engine
	got     [][]byte
	fetched int
}

func (k *keeping) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	data, err := k.Bucket.Get(ctx, key, limit)
	if err == nil {
		k.got = append(k.got, data)
		k.fetched++
	}
	return data, err
}

func (k *keeping) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	result, err := k.inner.Generate(ctx, r)
	if err == nil {
		for _, image := range result.Images {
			k.got = append(k.got, image.Data)
		}
	}
	return result, err
}

// At every outcome the photo, the mask and the pictures are overwritten.
func TestBuffersAreOverwritten(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*fixture, *keeping, *job.Job, context.CancelCauseFunc)
		buffers int
	}{
		"done": {func(*fixture, *keeping, *job.Job, context.CancelCauseFunc) {}, 4},
		"the engine fails": {func(_ *fixture, k *keeping, _ *job.Job, _ context.CancelCauseFunc) {
			k.inner.generate = func(context.Context) error { return errors.New("no") }
		}, 2},
		"cancelled": {func(_ *fixture, k *keeping, _ *job.Job, cancel context.CancelCauseFunc) {
			k.inner.generate = func(ctx context.Context) error { cancel(job.ErrCancelled); return context.Cause(ctx) }
		}, 2},
		"shut down": {func(_ *fixture, k *keeping, _ *job.Job, cancel context.CancelCauseFunc) {
			k.inner.generate = func(ctx context.Context) error { cancel(job.ErrShutdown); return context.Cause(ctx) }
		}, 2},
		"no mask": {func(f *fixture, _ *keeping, j *job.Job, _ context.CancelCauseFunc) {
			if err := f.memory.Delete(t.Context(), *j.Mask); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"the storage takes nothing": {func(f *fixture, _ *keeping, _ *job.Job, _ context.CancelCauseFunc) {
			f.bucket.Before(func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Put {
					return errors.New("full")
				}
				return nil
			})
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, processor.Recorder{})
			k := &keeping{Bucket: f.bucket}
			p := processor.New(processor.Options{Bucket: k, Engine: k, Patience: 1, Log: slog.New(slog.DiscardHandler)})
			j := f.photo(t, "a")
			j.Kind, j.Mask = job.Inpaint, new(storage.InputKey("a", "mask"))
			if err := f.memory.Put(t.Context(), *j.Mask, []byte("mask"), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			c.change(f, k, j, cancel)
			_, _ = p.Process(ctx, j, first("t1"), ignore)
			if k.fetched == 0 || len(k.got) < c.buffers {
				t.Fatalf("%d buffers, want %d", len(k.got), c.buffers)
			}
			for i, data := range k.got[:c.buffers] {
				if slices.Max(data) != 0 {
					t.Errorf("buffer %d holds %q", i, data)
				}
			}
		})
	}
}
