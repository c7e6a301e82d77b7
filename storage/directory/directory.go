// Package directory keeps objects as plain files below a folder, for one machine
// or a shared file system. A key is the file's path.
package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/imgus/worker/storage"
)

// rounds bounds how often an operation is tried again that another one at the
// same time got in the way of.
const rounds = 1000

// Bucket is a storage.Bucket over a folder. Several processes may use the same
// folder. What keys and symbolic links name outside of it is out of reach.
type Bucket struct {
	root *os.Root
}

var _ storage.Bucket = (*Bucket)(nil)

// Open opens the bucket below dir, which is made when it is missing.
func Open(dir string) (*Bucket, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open storage folder: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open storage folder: %w", err)
	}
	b := &Bucket{root}
	if err := b.prepareHidden(); err != nil {
		return nil, errors.Join(fmt.Errorf("open storage folder: %w", err), root.Close())
	}
	return b, nil
}

// Close releases the folder.
func (b *Bucket) Close() error { return b.root.Close() }

// Get implements storage.Bucket. An object whose file was put into the folder by
// other means has no checksum and is taken as it is.
func (b *Bucket) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	data, err := b.get(ctx, key, limit)
	if err != nil {
		return nil, failure("get object", err)
	}
	return data, nil
}

func (b *Bucket) get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	// An object that is deleted and put again while it is read can be compared
	// with its successor's checksum; a corrupt one stays so.
	for range 3 {
		if data, err = b.read(ctx, key, limit); !errors.Is(err, storage.ErrCorrupt) {
			break
		}
	}
	return data, err
}

func (b *Bucket) read(ctx context.Context, key string, limit int64) ([]byte, error) {
	if _, err := b.stat(ctx, key); err != nil {
		return nil, err
	}
	file, err := b.root.Open(key)
	if isNoFile(err) {
		return nil, storage.ErrNotFound // deleted since
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, storage.ErrUnreadable
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, storage.ErrTooLarge
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, storage.ErrCorrupt // cut off while it is read
	} else if err != nil {
		return nil, err
	}
	return data, b.verify(key, data)
}

// Stat implements storage.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (storage.Object, error) {
	info, err := b.stat(ctx, key)
	if err != nil {
		return storage.Object{}, failure("stat object", err)
	}
	return storage.Object{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil
}

// stat describes the file of an object; anything but a file is none.
func (b *Bucket) stat(ctx context.Context, key string) (fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !valid(key) {
		return nil, storage.ErrNotFound
	}
	info, err := b.root.Stat(key)
	if isNoFile(err) || err == nil && !info.Mode().IsRegular() {
		return nil, storage.ErrNotFound
	}
	return info, err
}

// Put implements storage.Bucket. The content type is told by the key's extension.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, _ storage.PutOptions) error {
	return failure("put object", b.put(ctx, key, data, b.root.Rename))
}

// PutIfAbsent implements storage.Bucket.
func (b *Bucket) PutIfAbsent(ctx context.Context, key string, data []byte, _ storage.PutOptions) error {
	if _, err := b.stat(ctx, key); err == nil {
		return failure("put object", storage.ErrExists) // spares the work; Link decides
	}
	err := b.put(ctx, key, data, b.root.Link)
	if errors.Is(err, fs.ErrExist) {
		err = storage.ErrExists
		if info, statErr := b.root.Lstat(key); statErr == nil && info.IsDir() {
			err = errKey
		}
	}
	return failure("put object", err)
}

// put writes a whole file under a hidden name and then gives it the key's name by
// rename, which is atomic.
func (b *Bucket) put(ctx context.Context, key string, data []byte, rename func(from, to string) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !valid(key) {
		return errKey
	}
	file, temporary, err := b.writeTemporary(data)
	if err != nil {
		return err
	}
	defer func() { // after Rename it is gone already
		err = errors.Join(err, ignoreNotExist(b.root.Remove(temporary)), file.Close())
	}()
	if err := b.expect(key, data); err != nil {
		return err
	}
	if err := b.publish(temporary, key, rename); err != nil {
		return err
	}
	return b.expect(key, data) // a Delete at the same time may have forgotten it
}

// publish gives a file the key's name, durably.
func (b *Bucket) publish(temporary, key string, rename func(from, to string) error) error {
	folder := path.Dir(key)
	_, err := b.root.Lstat(folder)
	isNew := err != nil
	for range rounds {
		if err := b.makeFolder(folder); err != nil {
			return err
		}
		if err = rename(temporary, key); !errors.Is(err, fs.ErrNotExist) {
			break // else a Delete at the same time has pruned the folder
		}
	}
	if err != nil {
		return err
	}
	return b.sync(folder, isNew)
}

// makeFolder is MkdirAll that holds its own against a Delete that prunes.
func (b *Bucket) makeFolder(name string) (err error) {
	for range rounds {
		err = b.root.MkdirAll(name, 0o700)
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return errKey // an object is in the way
	}
	return err
}

// sync makes the entries of a folder outlast a loss of power; of a new one, also
// those of the folders above.
func (b *Bucket) sync(folder string, isNew bool) error {
	for ; ; folder = path.Dir(folder) {
		file, err := b.root.Open(folder)
		if err == nil {
			err = errors.Join(file.Sync(), file.Close())
		}
		// Pruned by a Delete: nothing to keep. EINVAL: a file system that cannot.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
			return err
		}
		if folder == "." || !isNew {
			return nil
		}
	}
}

// Delete implements storage.Bucket. Folders that are left empty go too.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return failure("delete object", b.delete(ctx, key))
}

func (b *Bucket) delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !valid(key) {
		return nil
	}
	if info, err := b.root.Lstat(key); isNoFile(err) || err == nil && info.IsDir() {
		return nil
	} else if err != nil {
		return err
	}
	if err := b.forget(key); err != nil {
		return err
	}
	if err := ignoreNotExist(b.root.Remove(key)); err != nil {
		return err
	}
	folder := path.Dir(key)
	for folder != "." && b.removeFolder(folder) == nil {
		folder = path.Dir(folder)
	}
	return b.sync(folder, false)
}

// Check implements storage.Bucket.
func (b *Bucket) Check(ctx context.Context) error {
	err := storage.Probe(ctx, b)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("%w: the folder's file system has no hard links, which conditional writes need", storage.ErrUnfit)
	}
	return err
}

// errKey refuses to put under a key that cannot be a file's path.
var errKey = errors.New("the key cannot be the path of a file")

// valid reports whether key names a file below the root that is not hidden.
func valid(key string) bool {
	return fs.ValidPath(key) && key != "." && !isHidden(key) && !strings.ContainsRune(key, 0)
}

// isNoFile reports whether err says that there is no file at a path.
func isNoFile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || isKeyTrouble(err)
}

// isKeyTrouble reports whether the key is the cause of err: a folder where a file
// should be or the other way round, too long, a loop or a way out.
func isKeyTrouble(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.ENOTDIR, syscall.EISDIR, syscall.EEXIST, syscall.ENOTEMPTY, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EINVAL,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	var errno syscall.Errno
	var pathErr *fs.PathError
	return errors.As(err, &pathErr) && !errors.As(err, &errno) && !errors.Is(err, fs.ErrClosed) // os.Root: it escapes
}

// failure says what was being done. It drops the paths from the error.
func failure(doing string, err error) error {
	var errno syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrUnreadable):
		return fmt.Errorf("%s: %w", doing, storage.ErrUnreadable)
	case isKeyTrouble(err):
		return fmt.Errorf("%s: %w", doing, errKey)
	case errors.As(err, &errno):
		return fmt.Errorf("%s: %w: %w", doing, storage.ErrUnavailable, errno)
	case errors.Is(err, fs.ErrClosed):
		return fmt.Errorf("%s: %w: %w", doing, storage.ErrUnavailable, fs.ErrClosed)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
