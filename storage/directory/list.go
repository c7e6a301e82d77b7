package directory

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/imgus/worker/storage"
)

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[storage.Object, error] {
	return func(yield func(storage.Object, error) bool) {
		folder := "."
		if end := strings.LastIndexByte(prefix, '/'); end >= 0 {
			folder = prefix[:end]
		}
		if folder != "." && !valid(folder) {
			return // no key has this prefix
		}
		err := b.walk(ctx, folder, func(object storage.Object) bool {
			return yield(object, nil)
		}, prefix)
		if err != nil && !errors.Is(err, errStopped) {
			yield(storage.Object{}, failure("list objects", err))
		}
	}
}

// Versions implements storage.Bucket. A folder keeps one version of an object.
func (b *Bucket) Versions(ctx context.Context, prefix string) iter.Seq2[storage.Version, error] {
	return storage.OneVersion(b.List(ctx, prefix))
}

// Remove implements storage.Bucket.
func (b *Bucket) Remove(ctx context.Context, v storage.Version) error { return b.Delete(ctx, v.Key) }

// errStopped ends a walk of which the caller has enough.
var errStopped = errors.New("stopped")

// walk calls visit for each object below folder whose key has the prefix.
func (b *Bucket) walk(ctx context.Context, folder string, visit func(storage.Object) bool, prefix string) error {
	names, err := b.names(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		key := path.Join(folder, name)
		if isHidden(key) {
			continue
		}
		if strings.HasSuffix(name, "/") {
			if strings.HasPrefix(key+"/", prefix) || strings.HasPrefix(prefix, key+"/") {
				if err := b.walk(ctx, key, visit, prefix); err != nil {
					return err
				}
			}
			continue
		}
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		info, err := b.root.Lstat(key)
		if isNoFile(err) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		if !visit(storage.Object{Key: key, Size: info.Size(), Modified: info.ModTime()}) {
			return errStopped
		}
	}
	return ctx.Err()
}

// names returns the files and folders of a folder in the order of keys, in which
// a folder stands where its name and a slash do.
func (b *Bucket) names(folder string) ([]string, error) {
	file, err := b.root.Open(folder)
	if isNoFile(err) {
		return nil, nil // pruned by a Delete, or an object
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	entries, err := file.ReadDir(-1)
	if err != nil && !isNoFile(err) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		switch entry.Type() {
		case 0:
			names = append(names, entry.Name())
		case fs.ModeDir:
			names = append(names, entry.Name()+"/")
		}
	}
	slices.Sort(names)
	return names, nil
}
