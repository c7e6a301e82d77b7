package s3

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/imgus/worker/storage"
)

var (
	listingUploads = operation{"list uploads", "s3:ListBucketMultipartUploads on the bucket"}
	aborting       = operation{"abort upload", "s3:AbortMultipartUpload"}
)

var _ storage.Uploader = (*Bucket)(nil)

// Uploads implements storage.Uploader. The worker itself uploads in one part;
// producers may do otherwise.
func (b *Bucket) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		key, id := "", ""
		for {
			page, err := b.client.ListMultipartUploads(ctx, b.name, b.prefix, key, id, "", 1000)
			if err != nil {
				yield(storage.Upload{}, failure(ctx, listingUploads, err))
				return
			}
			for _, u := range page.Uploads {
				// Some stores take no notice of the prefix.
				name, ours := strings.CutPrefix(u.Key, b.prefix)
				if ours && !yield(storage.Upload{Key: name, ID: u.UploadID, Size: u.Size, Begun: u.Initiated}, nil) {
					return
				}
			}
			if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
				return
			}
			key, id = page.NextKeyMarker, page.NextUploadIDMarker
		}
	}
}

// Abort implements storage.Uploader.
func (b *Bucket) Abort(ctx context.Context, u storage.Upload) error {
	within, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err := b.client.AbortMultipartUpload(within, b.name, b.prefix+u.Key, u.ID)
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok && answer.Code == minio.NoSuchUpload {
		return nil
	}
	return failure(ctx, aborting, err)
}
