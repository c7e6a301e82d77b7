package telemetry

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"time"

	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/storage"
)

// Bucket measures what is done with a bucket.
func (m *Metrics) Bucket(b storage.Bucket, t *Tracer) storage.Bucket { return &bucket{b, m, t} }

var _ storage.Uploader = (*bucket)(nil)

type bucket struct {
	storage.Bucket
	metrics *Metrics
	tracer  *Tracer
}

// measure times an operation. That something is not there, or is there already,
// is an answer and no error.
func (b *bucket) measure(ctx context.Context, operation string, do func(context.Context) error) error {
	start := time.Now()
	ctx, end := b.tracer.span(ctx, "storage "+operation)
	err := do(ctx)
	b.metrics.storageTime.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	kind := storageError(err)
	if kind != "" {
		b.metrics.storageErrors.WithLabelValues(operation, kind).Inc()
	}
	end(kind)
	return err
}

// sweptKinds are the labels of what the janitor deletes.
var sweptKinds = map[janitor.Kind]string{
	janitor.LostImage: "lost_image", janitor.OrphanImage: "orphan_image", janitor.Probe: "probe", janitor.Unfinished: "unfinished_upload",
	janitor.OldInput: "old_input", janitor.OldResult: "old_result", janitor.OldRecord: "old_record", janitor.OldEntry: "old_index_entry",
}

// Swept is told of each deletion by the janitor.
func (m *Metrics) Swept(kind janitor.Kind) {
	m.swept.WithLabelValues(cmp.Or(sweptKinds[kind], other)).Inc()
}

func storageError(err error) string {
	switch {
	case err == nil, errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrExists), errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return "unavailable"
	case errors.Is(err, storage.ErrTooLarge):
		return "too_large"
	case errors.Is(err, storage.ErrCorrupt):
		return "corrupt"
	case errors.Is(err, storage.ErrUnreadable):
		return "unreadable"
	default:
		return other
	}
}

// Get implements storage.Bucket.
func (b *bucket) Get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	err = b.measure(ctx, "get", func(ctx context.Context) error { data, err = b.Bucket.Get(ctx, key, limit); return err })
	return data, err
}

// Put implements storage.Bucket.
func (b *bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return b.measure(ctx, "put", func(ctx context.Context) error { return b.Bucket.Put(ctx, key, data, opts) })
}

// PutIfAbsent implements storage.Bucket.
func (b *bucket) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return b.measure(ctx, "put_if_absent", func(ctx context.Context) error { return b.Bucket.PutIfAbsent(ctx, key, data, opts) })
}

// Delete implements storage.Bucket.
func (b *bucket) Delete(ctx context.Context, key string) error {
	return b.measure(ctx, "delete", func(ctx context.Context) error { return b.Bucket.Delete(ctx, key) })
}

// Stat implements storage.Bucket.
func (b *bucket) Stat(ctx context.Context, key string) (o storage.Object, err error) {
	err = b.measure(ctx, "stat", func(ctx context.Context) error { o, err = b.Bucket.Stat(ctx, key); return err })
	return o, err
}

// Remove implements storage.Bucket.
func (b *bucket) Remove(ctx context.Context, v storage.Version) error {
	return b.measure(ctx, "remove", func(ctx context.Context) error { return b.Bucket.Remove(ctx, v) })
}

// Abort implements storage.Uploader.
func (b *bucket) Abort(ctx context.Context, upload storage.Upload) error {
	uploader, ok := b.Bucket.(storage.Uploader)
	if !ok {
		return nil
	}
	return b.measure(ctx, "abort", func(ctx context.Context) error { return uploader.Abort(ctx, upload) })
}

// List implements storage.Bucket.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return measureList(ctx, b, "list", func(ctx context.Context) iter.Seq2[storage.Object, error] { return b.Bucket.List(ctx, prefix) })
}

// Versions implements storage.Bucket.
func (b *bucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return measureList(ctx, b, "versions", func(ctx context.Context) iter.Seq2[storage.Version, error] { return b.Bucket.Versions(ctx, prefix) })
}

// Uploads implements storage.Uploader; there are none in a bucket that is none.
func (b *bucket) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	uploader, ok := b.Bucket.(storage.Uploader)
	if !ok {
		return func(func(storage.Upload, error) bool) {}
	}
	return measureList(ctx, b, "uploads", uploader.Uploads)
}

// measureList times a listing until its last entry was taken.
func measureList[T any](ctx context.Context, b *bucket, operation string, list func(context.Context) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		_ = b.measure(ctx, operation, func(ctx context.Context) error { // the error was yielded
			for entry, err := range list(ctx) {
				if !yield(entry, err) || err != nil {
					return err
				}
			}
			return nil
		})
	}
}
