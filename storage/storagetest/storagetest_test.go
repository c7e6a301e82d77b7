package storagetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

func TestMemory(t *testing.T) {
	storagetest.Accept(t, func(*testing.T) storage.Bucket { return storagetest.Memory() })
}

func TestFaultyWithoutFaults(t *testing.T) {
	storagetest.Accept(t, func(*testing.T) storage.Bucket { return storagetest.Faulty(storagetest.Memory()) })
}

func TestMemoryCorrupt(t *testing.T) {
	b := storagetest.Memory()
	if err := b.Put(t.Context(), "a", []byte("data"), storage.PutOptions{ContentType: "image/png"}); err != nil {
		t.Fatal(err)
	}
	if got := b.ContentType("a"); got != "image/png" {
		t.Errorf("got content type %q", got)
	}
	b.Corrupt("a")
	if _, err := b.Get(t.Context(), "a", 10); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestFaults(t *testing.T) {
	ctx, lost := t.Context(), errors.New("lost")
	memory := storagetest.Memory()
	b := storagetest.Faulty(memory)

	b.Before(storagetest.Fail(storagetest.PutIfAbsent, 1, lost))
	if err := b.PutIfAbsent(ctx, "a", nil, storage.PutOptions{}); !errors.Is(err, lost) || len(memory.Keys()) != 0 {
		t.Errorf("failed before: got %v, keys %v", err, memory.Keys())
	}
	if err := b.PutIfAbsent(ctx, "a", nil, storage.PutOptions{}); err != nil {
		t.Errorf("the second call: got %v", err)
	}
	b.Before(nil)

	b.After(storagetest.Fail(storagetest.PutIfAbsent, 1, lost))
	if err := b.PutIfAbsent(ctx, "b", nil, storage.PutOptions{}); !errors.Is(err, lost) || len(memory.Keys()) != 2 {
		t.Errorf("reply lost: got %v, keys %v", err, memory.Keys())
	}
	if err := b.PutIfAbsent(ctx, "b", nil, storage.PutOptions{}); !errors.Is(err, storage.ErrExists) {
		t.Errorf("after the lost reply: got %v", err)
	}
	if got := b.Calls(storagetest.PutIfAbsent); got != 4 {
		t.Errorf("counted %d calls", got)
	}

	b.Before(storagetest.Slow(storagetest.Get, time.Hour))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := b.Get(cancelled, "a", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("slow and cancelled: got %v", err)
	}
}

// overwrites is a bucket on which PutIfAbsent does not hold.
type overwrites struct{ *storagetest.MemoryBucket }

func (b overwrites) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return b.Put(ctx, key, data, opts)
}

func TestProbe(t *testing.T) {
	unfit := overwrites{storagetest.Memory()}
	if err := storage.Probe(t.Context(), unfit); err == nil || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("unconditional store: got %v", err)
	}
	if keys := unfit.Keys(); len(keys) != 0 {
		t.Errorf("it leaves %v", keys)
	}
	for _, op := range []storagetest.Op{storagetest.Get, storagetest.PutIfAbsent, storagetest.Delete} {
		away := storagetest.Faulty(storagetest.Memory())
		away.Before(storagetest.Fail(op, 1, storage.ErrUnavailable))
		if err := storage.Probe(t.Context(), away); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s fails: got %v", op, err)
		}
	}
}
