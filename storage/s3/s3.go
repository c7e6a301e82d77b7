// Package s3 keeps objects in a bucket of an S3 store.
package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/imgus/worker/storage"
)

// Bucket is a storage.Bucket in an S3 store.
type Bucket struct {
	name, prefix string
	timeout      time.Duration
	transport    *http.Transport

	// client tries a request again that failed for the moment. once, for writes,
	// does not: see write.
	client, once *minio.Core
}

var _ storage.Bucket = (*Bucket)(nil)

// Close gives idle connections back.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Get implements storage.Bucket. It checks the bytes against the checksum that
// the store has of them; our own objects have SHA-256.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	data, err := b.get(within, key, limit)
	if err != nil {
		return nil, failure(ctx, getting, err)
	}
	return data, nil
}

func (b *Bucket) get(ctx context.Context, key string, limit int64) ([]byte, error) {
	body, info, _, err := b.client.GetObject(ctx, b.name, b.prefix+key, minio.GetObjectOptions{Checksum: true})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if info.Size > limit {
		return nil, storage.ErrTooLarge
	}
	if info.Size < 0 {
		return nil, errors.New("the store does not tell the object's size")
	}
	data := make([]byte, info.Size)
	refuse := func(err error) ([]byte, error) {
		clear(data)
		return nil, err
	}
	if _, err = io.ReadFull(body, data); err == nil {
		_, err = io.Copy(io.Discard, body) // minio-go compares the checksum at the end
	}
	if isMismatch(err) {
		return refuse(storage.ErrCorrupt)
	}
	if err != nil {
		return refuse(err)
	}
	// A store may leave out the checksum's type, without which minio-go compares
	// none. That of an upload in parts, which ends in -N, is not the content's.
	if want := info.ChecksumSHA256; want != "" && !strings.Contains(want, "-") && want != checksum(data) {
		return refuse(storage.ErrCorrupt)
	}
	return data, nil
}

// isMismatch recognises the error of minio-go's checksumVerifyingReader, which
// has no type of its own.
func isMismatch(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "checksum mismatch")
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Put implements storage.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	return failure(ctx, putting, b.write(ctx, key, data, putOptions(data, opts), isPassing))
}

// PutIfAbsent implements storage.Bucket.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	conditional := putOptions(data, opts)
	conditional.SetMatchETagExcept("*")
	// After a conflict nothing was written. After any other failure something may
	// have been, and a second try would lose against the first.
	return failure(ctx, puttingIfAbsent, b.write(ctx, key, data, conditional, isConflict))
}

const (
	writes = 6 // tries of one write
	pause  = 50 * time.Millisecond
)

// write puts an object and tries that again after the errors that again names.
// minio-go's own second try would read the body from the same reader as the
// first, which net/http may not be done with.
func (b *Bucket) write(ctx context.Context, key string, data []byte, opts minio.PutObjectOptions, again func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	sum := sha256.Sum256(data)
	var err error
	for try := range writes {
		_, err = b.once.PutObject(ctx, b.name, b.prefix+key, bytes.NewReader(data), int64(len(data)), "", hex.EncodeToString(sum[:]), opts)
		if err == nil || !again(err) {
			break
		}
		select {
		case <-time.After(pause << try):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func putOptions(data []byte, opts storage.PutOptions) minio.PutObjectOptions {
	return minio.PutObjectOptions{
		ContentType:  opts.ContentType,
		CacheControl: "private, no-store",
		UserMetadata: map[string]string{"X-Amz-Checksum-Sha256": checksum(data)},
		// The signature is over the checksum of the whole. Signed in chunks, which is
		// minio-go's way without TLS, v7.4.1 has a data race (StreamingReader.Close).
		DisableContentSha256: true,
	}
}

// Stat implements storage.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (storage.Object, error) {
	within, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	info, err := b.client.StatObject(within, b.name, b.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return storage.Object{}, failure(ctx, describing, err)
	}
	return storage.Object{Key: key, Size: info.Size, Modified: info.LastModified}, nil
}

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	opts := minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true, FetchOwner: new(bool)}
	return func(yield func(storage.Object, error) bool) {
		for info := range b.client.ListObjectsIter(ctx, b.name, opts) {
			if info.Err != nil {
				yield(storage.Object{}, failure(ctx, listing, info.Err))
				return
			}
			key := strings.TrimPrefix(info.Key, b.prefix)
			if !yield(storage.Object{Key: key, Size: info.Size, Modified: info.LastModified}, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Object{}, failure(ctx, listing, err))
		}
	}
}

// Check implements storage.Bucket. It needs no permission beyond those of the
// other operations.
func (b *Bucket) Check(ctx context.Context) error {
	if err := storage.Probe(ctx, b); err != nil {
		return fmt.Errorf("check the bucket: %w", err)
	}
	return nil
}
