package processor_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// late is a storage that does one write some time after it was asked, whether
// somebody still waits for the answer or not.
type late struct {
	*storagetest.MemoryBucket

	key   string // of the write
	delay time.Duration
	asked func() // is called when that write has begun
	done  *atomic.Bool
}

func (l late) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return l.write(ctx, key, func(ctx context.Context) error { return l.MemoryBucket.Put(ctx, key, data, opts) })
}

func (l late) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return l.write(ctx, key, func(ctx context.Context) error { return l.MemoryBucket.PutIfAbsent(ctx, key, data, opts) })
}

func (l late) write(ctx context.Context, key string, do func(context.Context) error) error {
	if key != l.key || l.done.Swap(true) {
		return do(ctx)
	}
	answer := make(chan error, 1)
	time.AfterFunc(l.delay, func() { answer <- do(context.WithoutCancel(ctx)) })
	l.asked()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A write that is under way when its job ends may land late, and even after
// everybody has given it up. Whatever becomes of the job: what its record names
// is there, and of a job that was cancelled nothing else.
func TestWritesThatLandLate(t *testing.T) {
	const image, record = "results/a/t1-1.png", "results/a/result.json"
	for name, tt := range map[string]struct {
		key   string
		delay time.Duration
	}{
		"image":               {image, time.Second},
		"record":              {record, time.Second},
		"record, given up":    {record, 8 * time.Second},
		"record, after hours": {record, time.Hour},
	} {
		for _, cause := range []error{job.ErrCancelled, job.ErrShutdown} {
			t.Run(name+": "+cause.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					memory := storagetest.Memory()
					ctx, cancel := context.WithCancelCause(t.Context())
					bucket := late{MemoryBucket: memory, key: tt.key, delay: tt.delay, asked: func() { cancel(cause) }, done: new(atomic.Bool)}
					p := processor.New(processor.Options{Bucket: bucket, Engine: &engine{}, Log: slog.New(slog.DiscardHandler)})
					outcome, err := p.Process(ctx, text("a"), first("t1"), ignore)
					time.Sleep(2 * time.Hour)
					if errors.Is(cause, job.ErrCancelled) && (err != nil || !outcome.State.Final()) || err != nil && !errors.Is(err, cause) {
						t.Errorf("outcome is %+v, %v", outcome, err)
					}
					data, err := memory.Get(t.Context(), record, storage.MaxRecord)
					if errors.Is(err, storage.ErrNotFound) {
						if len(memory.Keys()) > 0 {
							t.Errorf("without a record there is %s", memory.Keys())
						}
						return
					}
					r, err := job.DecodeRecord(data)
					if err != nil {
						t.Fatal(err)
					}
					if outcome.State != "" && outcome.State != r.State {
						t.Errorf("the outcome is %s, and the record %s", outcome.State, r.State)
					}
					for _, i := range r.Images {
						if !slices.Contains(memory.Keys(), i.Key) {
							t.Errorf("the record is %s and names %s, but there is %s", r.State, i.Key, memory.Keys())
						}
					}
					if r.State == job.Cancelled && slices.ContainsFunc(memory.Keys(), func(key string) bool { return key != record && key != storage.DeletionsKey("a") }) {
						t.Errorf("of a cancelled job there is %s", memory.Keys())
					}
				})
			})
		}
	}
}
