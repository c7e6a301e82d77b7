package directory

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"

	"github.com/imgus/worker/storage"
)

var _ storage.Uploader = (*Bucket)(nil)

// Uploads implements storage.Uploader: the temporary files.
func (b *Bucket) Uploads(ctx context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		entries, err := fs.ReadDir(b.root.FS(), temporary)
		if err != nil {
			yield(storage.Upload{}, failure("list uploads", err))
			return
		}
		for _, entry := range entries {
			if ctx.Err() != nil {
				yield(storage.Upload{}, ctx.Err())
				return
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has ended
			}
			if err != nil {
				yield(storage.Upload{}, failure("list uploads", err))
				return
			}
			abandoned, err := b.abandoned(path.Join(temporary, entry.Name()))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				yield(storage.Upload{}, failure("list uploads", err))
				return
			}
			if !yield(storage.Upload{ID: entry.Name(), Size: info.Size(), Begun: info.ModTime(), Abandoned: abandoned}, nil) {
				return
			}
		}
	}
}

// Abort implements storage.Uploader.
func (b *Bucket) Abort(_ context.Context, u storage.Upload) error {
	return failure("abort upload", b.root.RemoveAll(path.Join(temporary, path.Base(u.ID))))
}
