package storage

import (
	"context"
	"iter"
	"time"
)

// Upload is what a writer has begun and not ended. It is no object yet, but
// takes room, and may hold a photo.
type Upload struct {
	// Key is that of the object to be, "" if that is not known.
	Key   string
	ID    string
	Size  int64 // 0 if that is not known
	Begun time.Time
	// Abandoned: its writer is gone for sure.
	Abandoned bool
}

// Uploader is a Bucket in which a writer that ends halfway leaves an Upload.
type Uploader interface {
	// Uploads yields what was begun and not ended. After an error the sequence
	// ends.
	Uploads(ctx context.Context) iter.Seq2[Upload, error]
	// Abort removes it; it is no error if it has ended.
	Abort(ctx context.Context, u Upload) error
}
