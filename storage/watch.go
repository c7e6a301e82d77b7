package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"
)

const (
	firstPause   = time.Second
	longestPause = 5 * time.Second
	// inquiry bounds what Await and Run ask of a storage that may hang; answering
	// bounds the one question whether it is there.
	inquiry   = 10 * time.Second
	answering = 3 * time.Second
)

// WatchOptions are what Watch needs besides the bucket.
type WatchOptions struct {
	Log *slog.Logger
	// Outage is told when the storage went away and when it came back. May be
	// nil; it must not block.
	Outage func(away bool)
}

// Watched is a Bucket that knows whether the storage is there, and whether it
// takes what is put: one that is full, or denies it, still answers. An operation
// that fails with ErrUnavailable, or has no answer in its time, casts doubt on it,
// no more, since that may be one object's trouble. Run then asks the storage
// itself. While it is away every operation fails at once, so that nobody but Run
// knocks; while it takes nothing every put does, and deletions may make room.
type Watched struct {
	bucket Bucket
	opts   WatchOptions
	doubt  chan struct{}

	mu      sync.Mutex
	away    trouble
	closed  trouble // nothing can be put
	unasked bool    // a put has failed, and nobody has tried another since
}

var _ Bucket = (*Watched)(nil)

// Watch makes a bucket watched. Await comes first, then Run.
func Watch(b Bucket, o WatchOptions) *Watched {
	return &Watched{
		bucket: b, opts: o, doubt: make(chan struct{}, 1),
		away:   trouble{begins: "the storage is away; waiting for it", ends: "the storage is back"},
		closed: trouble{begins: "the storage takes no objects, full or forbidden; waiting for it", ends: "the storage takes objects again"},
	}
}

// Away says why the storage cannot be used, or nothing put into it; nil while it
// can.
func (w *Watched) Away() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.troubled()
}

// Await waits until the storage answers, or ctx ends. A storage that answers but
// is unfit is an error.
func (w *Watched) Await(ctx context.Context) error {
	var unfit error
	w.ask(ctx, func(ctx context.Context) error {
		err := w.bucket.Check(ctx)
		if err != nil && !errors.Is(err, ErrUnavailable) && ctx.Err() == nil {
			unfit, err = err, nil
		}
		return w.note(ctx, &w.away, err)
	})
	return unfit
}

// Run asks the storage whenever there is doubt, until ctx ends.
func (w *Watched) Run(ctx context.Context) {
	for {
		select {
		case <-w.doubt:
			w.ask(ctx, w.look)
		case <-ctx.Done():
			return
		}
	}
}

// look asks whether the storage is there and, if a put has failed, whether it
// takes another.
func (w *Watched) look(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	if err := w.note(ctx, &w.away, missing(within, w.bucket, ProbeKey())); err != nil {
		return err
	}
	w.mu.Lock()
	unasked := w.unasked || w.closed.err != nil
	w.unasked = false
	w.mu.Unlock()
	if !unasked {
		return nil
	}
	key := ProbeKey()
	err := w.bucket.Put(ctx, key, []byte("probe"), PutOptions{ContentType: "text/plain"})
	if err == nil {
		_ = w.bucket.Delete(ctx, key) // else the next sweep does
	}
	return w.note(ctx, &w.closed, err)
}

// ask asks until there is no error, or ctx ends.
func (w *Watched) ask(ctx context.Context, question func(context.Context) error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		within, cancel := context.WithTimeout(ctx, inquiry)
		err := question(within)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// trouble is what the storage has or has not, and what is said once when that
// begins and when it ends.
type trouble struct {
	err          error // nil while there is none
	begins, ends string
}

// note takes in an answer, and gives the error back.
func (w *Watched) note(ctx context.Context, t *trouble, err error) error {
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return err // nobody waits for an answer any more
	}
	w.mu.Lock()
	before, news := w.troubled() != nil, (t.err == nil) != (err == nil)
	t.err = err
	after := w.troubled() != nil
	w.mu.Unlock()
	if news && err != nil {
		w.opts.Log.Warn(t.begins, "error", err)
	}
	if news && err == nil {
		w.opts.Log.Info(t.ends)
	}
	if before != after && w.opts.Outage != nil {
		w.opts.Outage(after)
	}
	return err
}

// troubled needs the lock.
func (w *Watched) troubled() error {
	if w.away.err != nil {
		return w.away.err
	}
	return w.closed.err
}

// doubtful reports whether an operation's error may be the storage's own.
func doubtful(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// do runs an operation unless the storage is away.
func (w *Watched) do(operation func() error) error {
	w.mu.Lock()
	away := w.away.err != nil
	w.mu.Unlock()
	if away {
		return fmt.Errorf("%w: it was away a moment ago and is not asked yet", ErrUnavailable)
	}
	err := operation()
	if doubtful(err) {
		select {
		case w.doubt <- struct{}{}:
		default: // there is doubt already
		}
	}
	return err
}

// put is do for what puts an object.
func (w *Watched) put(operation func() error) error {
	w.mu.Lock()
	closed := w.closed.err != nil
	w.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: it took nothing a moment ago and is not asked yet", ErrUnavailable)
	}
	return w.do(func() error {
		err := operation()
		if doubtful(err) {
			w.mu.Lock()
			w.unasked = true
			w.mu.Unlock()
		}
		return err
	})
}

// Get implements Bucket.
func (w *Watched) Get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	err = w.do(func() error { data, err = w.bucket.Get(ctx, key, limit); return err })
	return data, err
}

// Put implements Bucket.
func (w *Watched) Put(ctx context.Context, key string, data []byte, opts PutOptions) error {
	return w.put(func() error { return w.bucket.Put(ctx, key, data, opts) })
}

// PutIfAbsent implements Bucket.
func (w *Watched) PutIfAbsent(ctx context.Context, key string, data []byte, opts PutOptions) error {
	return w.put(func() error { return w.bucket.PutIfAbsent(ctx, key, data, opts) })
}

// Delete implements Bucket.
func (w *Watched) Delete(ctx context.Context, key string) error {
	return w.do(func() error { return w.bucket.Delete(ctx, key) })
}

// Stat implements Bucket.
func (w *Watched) Stat(ctx context.Context, key string) (object Object, err error) {
	err = w.do(func() error { object, err = w.bucket.Stat(ctx, key); return err })
	return object, err
}

// List implements Bucket.
func (w *Watched) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return watchedList(w, w.bucket.List(ctx, prefix))
}

// Versions implements Bucket.
func (w *Watched) Versions(ctx context.Context, prefix string) iter.Seq2[Version, error] {
	return watchedList(w, w.bucket.Versions(ctx, prefix))
}

func watchedList[T any](w *Watched, list iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		stopped := false
		err := w.do(func() error {
			for entry, err := range list {
				if err != nil {
					return err
				}
				if !yield(entry, nil) {
					stopped = true
					return nil
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

// Remove implements Bucket.
func (w *Watched) Remove(ctx context.Context, v Version) error {
	return w.do(func() error { return w.bucket.Remove(ctx, v) })
}

// Check implements Bucket.
func (w *Watched) Check(ctx context.Context) error {
	return w.do(func() error { return w.bucket.Check(ctx) })
}

// Uploads implements Uploader; there are none in a bucket that is none.
func (w *Watched) Uploads(ctx context.Context) iter.Seq2[Upload, error] {
	if u, ok := w.bucket.(Uploader); ok {
		return u.Uploads(ctx)
	}
	return func(func(Upload, error) bool) {}
}

// Abort implements Uploader.
func (w *Watched) Abort(ctx context.Context, upload Upload) error {
	if u, ok := w.bucket.(Uploader); ok {
		return u.Abort(ctx, upload)
	}
	return nil
}
