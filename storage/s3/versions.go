package s3

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/imgus/worker/storage"
)

// A bucket may keep versions: then a deletion only puts a mark in front, and the
// photo is still there. The store says so in its answer to the deletion
// (x-amz-delete-marker), which costs no request where there are none.

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	marked, err := b.delete(ctx, key)
	if err != nil || !marked {
		return err
	}
	for v, err := range b.Versions(ctx, key) {
		if err == nil && v.Key == key {
			err = b.Remove(ctx, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Bucket) delete(ctx context.Context, key string) (marked bool, err error) {
	within, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err = b.client.RemoveObject(context.WithValue(within, markKey{}, &marked), b.name, b.prefix+key, minio.RemoveObjectOptions{})
	if err = failure(ctx, deleting, err); errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return marked, err
}

// Versions implements storage.Bucket. A store that does not know of versions has
// one of each object.
func (b *Bucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	opts := minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true, WithVersions: true}
	return func(yield func(storage.Version, error) bool) {
		for info := range b.client.ListObjectsIter(ctx, b.name, opts) {
			if unknown(info.Err) {
				storage.OneVersion(b.List(ctx, prefix))(yield)
				return
			}
			if info.Err != nil {
				yield(storage.Version{}, failure(ctx, listingVersions, info.Err))
				return
			}
			v := storage.Version{
				Object: storage.Object{Key: strings.TrimPrefix(info.Key, b.prefix), Size: info.Size, Modified: info.LastModified},
				ID:     info.VersionID, Current: info.IsLatest, Deleted: info.IsDeleteMarker,
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(storage.Version{}, failure(ctx, listingVersions, err))
		}
	}
}

// Remove implements storage.Bucket.
func (b *Bucket) Remove(ctx context.Context, v storage.Version) error {
	within, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err := b.client.RemoveObject(within, b.name, b.prefix+v.Key, minio.RemoveObjectOptions{VersionID: v.ID})
	// Some stores call the id of a version that is gone invalid.
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok && (answer.Code == minio.NoSuchVersion || answer.Code == minio.InvalidArgument) {
		return nil
	}
	if err = failure(ctx, removing, err); errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

// unknown reports whether the store has no such request.
func unknown(err error) bool {
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && (answer.StatusCode == http.StatusNotImplemented || answer.StatusCode == http.StatusMethodNotAllowed)
}

// markKey is the context's key for a *bool, set when a deletion left a mark.
type markKey struct{}

// markTelling hands on what minio-go keeps to itself.
type markTelling struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t markTelling) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if marked, ok := r.Context().Value(markKey{}).(*bool); ok && err == nil && response.Header.Get("X-Amz-Delete-Marker") == "true" {
		*marked = true
	}
	return response, err
}
