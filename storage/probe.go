package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Probe tries on a key of its own what the worker's promises rest on: a missing
// object is told from one that may not be read, what was put can be read, a
// second PutIfAbsent loses, and what was deleted is gone.
func Probe(ctx context.Context, bucket Bucket) error {
	key, opts := ProbeKey(), PutOptions{ContentType: "text/plain"}
	if err := missing(ctx, bucket, key); err != nil {
		return err
	}
	if err := bucket.PutIfAbsent(ctx, key, []byte("first"), opts); err != nil {
		return err
	}
	err := conditional(ctx, bucket, key, opts)
	if err := errors.Join(err, bucket.Delete(ctx, key)); err != nil {
		return err
	}
	return missing(ctx, bucket, key)
}

func missing(ctx context.Context, bucket Bucket, key string) error {
	_, err := bucket.Get(ctx, key, MaxRecord)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err == nil:
		return fmt.Errorf("%w: it returns an object that does not exist", ErrUnfit)
	}
	return err
}

// conditional tries to overwrite the object "first" by PutIfAbsent.
func conditional(ctx context.Context, bucket Bucket, key string, opts PutOptions) error {
	err := bucket.PutIfAbsent(ctx, key, []byte("second"), opts)
	if err == nil {
		return fmt.Errorf("%w: a conditional write overwrote an object, so two workers could both decide a job", ErrUnfit)
	}
	if !errors.Is(err, ErrExists) {
		return err
	}
	got, err := bucket.Get(ctx, key, MaxRecord)
	if err == nil && !bytes.Equal(got, []byte("first")) {
		err = fmt.Errorf("%w: the object read is not the one put", ErrUnfit)
	}
	return err
}
