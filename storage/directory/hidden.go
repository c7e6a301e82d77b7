package directory

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/imgus/worker/storage"
)

// The hidden folder, which no key reaches, holds what is being written and the
// checksums.
const (
	hidden    = ".imgus"
	temporary = hidden + "/tmp"
	checksums = hidden + "/sha256"
)

// leftover is the age at which a temporary folder, which has checksums alone, is
// nobody's: whoever was about to remove it crashed.
const leftover = time.Hour

// isHidden holds also where a file system does not tell .imgus from .IMGUS.
func isHidden(key string) bool {
	first, _, _ := strings.Cut(key, "/")
	return strings.EqualFold(first, hidden)
}

// prepareHidden makes the hidden folders and removes what crashes left there,
// which can be a user's photo.
func (b *Bucket) prepareHidden() error {
	for _, folder := range []string{temporary, checksums} {
		if err := b.root.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	entries, err := fs.ReadDir(b.root.FS(), temporary)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := temporary + "/" + entry.Name()
		abandoned, err := b.abandoned(name)
		if err == nil && abandoned {
			err = b.root.RemoveAll(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// abandoned reports whether a temporary file's writer has ended, and left it: a
// writer holds a lock on its file, which ends with the process, however it ends.
func (b *Bucket) abandoned(name string) (bool, error) {
	info, err := b.root.Lstat(name)
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return time.Since(info.ModTime()) > leftover, nil
	}
	file, err := b.root.Open(name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	err = lock(file)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// lock takes the one lock of a file, or fails at once. It goes when the file is
// closed.
func lock(file *os.File) error { return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// writeTemporary writes data to a new hidden file, durably. The file stays open,
// and so locked, until it has another name or is removed.
func (b *Bucket) writeTemporary(data []byte) (file *os.File, name string, err error) {
	for range rounds {
		name = temporaryName()
		if file, err = b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
			return nil, "", err
		}
		if err = lock(file); err == nil {
			_, err = b.root.Lstat(name)
		}
		if err == nil {
			break
		}
		// Before it was locked, somebody took it for abandoned.
		err = errors.Join(err, file.Close(), ignoreNotExist(b.root.Remove(name)))
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
	}
	if err != nil {
		return nil, "", err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return nil, "", errors.Join(err, b.root.Remove(name), file.Close())
	}
	return file, name, nil
}

func temporaryName() string { return temporary + "/" + rand.Text() }

// A key's checksum folder has an empty file for each object put under the key
// since it was last deleted, named by the object's checksum. Put makes that file
// before it publishes the object and once more after; Delete takes the folder
// away before it removes the object. So, whoever else puts, deletes or crashes,
// an object that stands has its checksum, or its key has none. The folder's name
// does not tell the key.

func checksumFolder(key string) string {
	sum := sha256.Sum256([]byte(key))
	return checksums + "/" + hex.EncodeToString(sum[:])
}

func checksumName(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// expect notes the checksum of data. It is not synced: a journal keeps it in
// order with the object, which is.
func (b *Bucket) expect(key string, data []byte) error {
	folder := checksumFolder(key)
	var file *os.File
	var err error
	for range rounds {
		if err := b.makeFolder(folder); err != nil {
			return err
		}
		file, err = b.root.OpenFile(folder+"/"+checksumName(data), os.O_CREATE|os.O_WRONLY, 0o600)
		if !errors.Is(err, fs.ErrNotExist) { // else a Delete at the same time
			break
		}
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// verify compares data with the checksums that its key has had.
func (b *Bucket) verify(key string, data []byte) error {
	folder := checksumFolder(key)
	_, err := b.root.Lstat(folder + "/" + checksumName(data))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	others, err := fs.ReadDir(b.root.FS(), folder)
	if len(others) > 0 {
		return storage.ErrCorrupt
	}
	return ignoreNotExist(err)
}

// forget removes the checksums of a key, all at once, since one without the
// others would tell a lie.
func (b *Bucket) forget(key string) error {
	name := temporaryName()
	err := b.root.Rename(checksumFolder(key), name)
	if err != nil {
		return ignoreNotExist(err)
	}
	return b.root.RemoveAll(name)
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
