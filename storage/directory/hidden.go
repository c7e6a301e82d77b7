package directory

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
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

// leftover is the age at which a temporary file is nobody's: its writer crashed.
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
		info, err := b.root.Lstat(name)
		if err == nil && time.Since(info.ModTime()) > leftover {
			err = b.root.RemoveAll(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeTemporary writes data to a new hidden file, durably, and returns its name.
func (b *Bucket) writeTemporary(data []byte) (string, error) {
	name := temporaryName()
	file, err := b.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, b.root.Remove(name))
	}
	return name, nil
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
