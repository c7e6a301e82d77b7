package seal

import (
	"bytes"
	"encoding/base64"
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

// IDs lists the keys of the folder, and says what is wrong with it: a file that
// is no key, or none to seal with. Hidden files are passed over, as Kubernetes
// has them in a mounted secret.
func (k Keys) IDs() ([]string, error) {
	if k.Directory == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(k.Directory)
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if !keyID.MatchString(e.Name()) {
			return nil, errors.New("the folder has a file whose name is no id of a key: 1 to 64 of A-Za-z0-9._-, the first a letter or digit")
		}
		key, err := k.read(e.Name())
		if err != nil {
			return nil, err
		}
		clear(key)
		ids = append(ids, e.Name())
	}
	return ids, nil
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
