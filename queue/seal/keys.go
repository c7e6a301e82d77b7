package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const keySize = 32

// keyID is what a key may be called: it is the name of a file.
var keyID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Key is what may be told of a key.
type Key struct {
	ID string
	// Fingerprint is the same wherever the key is, and does not tell it.
	Fingerprint string
}

// List gives the keys of the folder, and what is wrong with other files in it.
// Hidden files and folders are passed over, as Kubernetes has them in a mounted
// secret.
func (k Keys) List() (keys []Key, wrong []error, err error) {
	if k.Directory == "" {
		return nil, nil, nil
	}
	entries, err := os.ReadDir(k.Directory)
	if err != nil {
		return nil, nil, fmt.Errorf("list keys: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || e.IsDir() {
			continue
		}
		if !keyID.MatchString(e.Name()) {
			wrong = append(wrong, errors.New("a file's name is no id of a key: 1 to 64 of A-Za-z0-9._-, the first a letter or digit"))
			continue
		}
		key, err := k.read(e.Name())
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		sum := sha256.Sum256(append([]byte("imgus-key\n"), key...))
		clear(key)
		keys = append(keys, Key{e.Name(), hex.EncodeToString(sum[:4])})
	}
	return keys, wrong, nil
}

// read gives a key. Every error is ErrNoKey, and tells nothing of what is in the
// file.
func (k Keys) read(id string) ([]byte, error) {
	if k.Directory == "" || !keyID.MatchString(id) {
		return nil, fmt.Errorf("key %s: %w", id, ErrNoKey)
	}
	file, err := os.Open(filepath.Join(k.Directory, id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("key %s: %w", id, ErrNoKey)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w: %w", id, ErrNoKey, err)
	}
	defer file.Close()
	const most = 128 // 44 characters, and room for white space
	text, err := io.ReadAll(io.LimitReader(file, most))
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w: %w", id, ErrNoKey, err)
	}
	key := make([]byte, base64.StdEncoding.DecodedLen(most))
	n, err := base64.StdEncoding.Decode(key, bytes.TrimSpace(text))
	if err != nil || n != keySize {
		clear(key)
		return nil, fmt.Errorf("key %s: %w: its file must hold 32 bytes in base64 (openssl rand -base64 32)", id, ErrNoKey)
	}
	return key[:n], nil
}
