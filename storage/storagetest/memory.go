package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imgus/worker/storage"
)

// MemoryBucket is a Bucket in memory, for tests.
type MemoryBucket struct {
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data        []byte
	sum         [sha256.Size]byte
	contentType string
	modified    time.Time
}

// Memory returns an empty bucket in memory.
func Memory() *MemoryBucket {
	return &MemoryBucket{objects: map[string]object{}}
}

var _ storage.Bucket = (*MemoryBucket)(nil)

// Get implements storage.Bucket.
func (b *MemoryBucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	o, err := b.object(ctx, "get", key)
	switch {
	case err != nil:
		return nil, err
	case int64(len(o.data)) > limit:
		return nil, fmt.Errorf("get object: %w", storage.ErrTooLarge)
	case sha256.Sum256(o.data) != o.sum:
		return nil, fmt.Errorf("get object: %w", storage.ErrCorrupt)
	}
	return bytes.Clone(o.data), nil
}

// Stat implements storage.Bucket.
func (b *MemoryBucket) Stat(ctx context.Context, key string) (storage.Object, error) {
	o, err := b.object(ctx, "stat", key)
	if err != nil {
		return storage.Object{}, err
	}
	return describe(key, o), nil
}

func (b *MemoryBucket) object(ctx context.Context, verb, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, fmt.Errorf("%s object: %w", verb, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%s object: %w", verb, storage.ErrNotFound)
	}
	return o, nil
}

func describe(key string, o object) storage.Object {
	return storage.Object{Key: key, Size: int64(len(o.data)), Modified: o.modified}
}

// Put implements storage.Bucket.
func (b *MemoryBucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return b.put(ctx, key, data, opts, true)
}

// PutIfAbsent implements storage.Bucket.
func (b *MemoryBucket) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return b.put(ctx, key, data, opts, false)
}

func (b *MemoryBucket) put(ctx context.Context, key string, data []byte, opts storage.PutOptions, overwrite bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put object: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.objects[key]; ok && !overwrite {
		return fmt.Errorf("put object: %w", storage.ErrExists)
	}
	b.objects[key] = object{bytes.Clone(data), sha256.Sum256(data), opts.ContentType, time.Now()}
	return nil
}

// Delete implements storage.Bucket.
func (b *MemoryBucket) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, key)
	return nil
}

// List implements storage.Bucket. It yields what the bucket held at the call.
func (b *MemoryBucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		b.mu.Lock()
		objects := maps.Clone(b.objects)
		b.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if err := ctx.Err(); err != nil {
				yield(storage.Object{}, fmt.Errorf("list objects: %w", err))
				return
			}
			if strings.HasPrefix(key, prefix) && !yield(describe(key, objects[key]), nil) {
				return
			}
		}
	}
}

// Versions implements storage.Bucket. There is one of each object.
func (b *MemoryBucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return storage.OneVersion(b.List(ctx, prefix))
}

// Remove implements storage.Bucket.
func (b *MemoryBucket) Remove(ctx context.Context, v storage.Version) error {
	return b.Delete(ctx, v.Key)
}

// Check implements storage.Bucket.
func (b *MemoryBucket) Check(ctx context.Context) error { return storage.Probe(ctx, b) }

// Keys returns the keys of all objects, sorted.
func (b *MemoryBucket) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

// ContentType returns the content type that the object was put with, or "".
func (b *MemoryBucket) ContentType(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.objects[key].contentType
}

// Corrupt flips a bit of the object, which must exist and not be empty, so that
// Get finds it corrupt.
func (b *MemoryBucket) Corrupt(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[key]
	o.data = bytes.Clone(o.data)
	o.data[0] ^= 1
	b.objects[key] = o
}
