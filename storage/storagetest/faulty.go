package storagetest

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imgus/worker/storage"
)

// Op is an operation of a Bucket.
type Op string

// The operations of a Bucket.
const (
	Get         Op = "get"
	Put         Op = "put"
	PutIfAbsent Op = "put if absent"
	Delete      Op = "delete"
	Stat        Op = "stat"
	List        Op = "list"     // Key is the prefix
	Versions    Op = "versions" // Key is the prefix
	Remove      Op = "remove"
	Check       Op = "check"
)

// Call is one call of an operation.
type Call struct {
	Op     Op
	Key    string
	Number int // this operation's calls so far, this one included
}

// Hook is asked about a call. When it returns an error the call returns that.
type Hook func(ctx context.Context, call Call) error

// FaultyBucket wraps a Bucket, counts its calls and lets them fail.
type FaultyBucket struct {
	bucket storage.Bucket

	mu            sync.Mutex
	before, after Hook
	calls         map[Op]int
}

// Faulty returns bucket with faults, at first without any.
func Faulty(bucket storage.Bucket) *FaultyBucket {
	return &FaultyBucket{bucket: bucket, calls: map[Op]int{}}
}

var _ storage.Bucket = (*FaultyBucket)(nil)

// Before sets the hook that is asked before an operation, which does not happen
// when the hook returns an error. nil removes it.
func (f *FaultyBucket) Before(hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = hook
}

// After sets the hook that is asked when an operation has succeeded: by an
// error its answer is lost, though it happened. nil removes it.
func (f *FaultyBucket) After(hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = hook
}

// Calls returns how often op was called.
func (f *FaultyBucket) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Fail returns a hook by which the next n calls of op return err.
func Fail(op Op, n int, err error) Hook {
	var left atomic.Int64
	left.Store(int64(n))
	return func(_ context.Context, call Call) error {
		if call.Op == op && left.Add(-1) >= 0 {
			return err
		}
		return nil
	}
}

// Slow returns a hook that makes each call of op wait.
func Slow(op Op, wait time.Duration) Hook {
	return func(ctx context.Context, call Call) error {
		if call.Op != op {
			return nil
		}
		select {
		case <-time.After(wait):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// do makes one call of the wrapped bucket, between the hooks.
func (f *FaultyBucket) do(ctx context.Context, op Op, key string, operate func() error) error {
	f.mu.Lock()
	f.calls[op]++
	call, before, after := Call{op, key, f.calls[op]}, f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(ctx, call); err != nil {
			return err
		}
	}
	if err := operate(); err != nil {
		return err
	}
	if after != nil {
		return after(ctx, call)
	}
	return nil
}

// Get implements storage.Bucket.
func (f *FaultyBucket) Get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	err = f.do(ctx, Get, key, func() (err error) {
		data, err = f.bucket.Get(ctx, key, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Put implements storage.Bucket.
func (f *FaultyBucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return f.do(ctx, Put, key, func() error { return f.bucket.Put(ctx, key, data, opts) })
}

// PutIfAbsent implements storage.Bucket.
func (f *FaultyBucket) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return f.do(ctx, PutIfAbsent, key, func() error { return f.bucket.PutIfAbsent(ctx, key, data, opts) })
}

// Delete implements storage.Bucket.
func (f *FaultyBucket) Delete(ctx context.Context, key string) error {
	return f.do(ctx, Delete, key, func() error { return f.bucket.Delete(ctx, key) })
}

// Stat implements storage.Bucket.
func (f *FaultyBucket) Stat(ctx context.Context, key string) (object storage.Object, err error) {
	err = f.do(ctx, Stat, key, func() (err error) {
		object, err = f.bucket.Stat(ctx, key)
		return err
	})
	if err != nil {
		return storage.Object{}, err
	}
	return object, nil
}

// List implements storage.Bucket. An error of After ends the sequence.
func (f *FaultyBucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return faultyList(ctx, f, List, prefix, f.bucket.List(ctx, prefix))
}

// Versions implements storage.Bucket. An error of After ends the sequence.
func (f *FaultyBucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return faultyList(ctx, f, Versions, prefix, f.bucket.Versions(ctx, prefix))
}

func faultyList[T any](ctx context.Context, f *FaultyBucket, op Op, prefix string, list iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		err := f.do(ctx, op, prefix, func() error {
			for entry, err := range list {
				if err != nil {
					return err
				}
				if !yield(entry, nil) {
					stopped = true
					break
				}
			}
			return nil
		})
		if err != nil && !stopped {
			var none T
			yield(none, err)
		}
	}
}

// Remove implements storage.Bucket.
func (f *FaultyBucket) Remove(ctx context.Context, v storage.Version) error {
	return f.do(ctx, Remove, v.Key, func() error { return f.bucket.Remove(ctx, v) })
}

// Check implements storage.Bucket.
func (f *FaultyBucket) Check(ctx context.Context) error {
	return f.do(ctx, Check, "", func() error { return f.bucket.Check(ctx) })
}
