package directory_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/storage"
)

// FuzzKeys: whatever the key, nothing outside the folder and nothing hidden is
// read, written, listed or deleted, and no error tells the key.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{
		"a", "inputs/a", "../secret", "a/../../secret", "/secret", "..", ".", "", ".imgus/tmp/a", "a\x00", "a//b", "ü", `..\secret`, "./../secret", "a/./b",
		"results/1/result.json", strings.Repeat("x/", 200) + "x", strings.Repeat("y", 300), "\xff",
	} {
		f.Add(key)
	}
	parent := f.TempDir()
	secret := filepath.Join(parent, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key string) {
		dir := filepath.Join(parent, "root")
		b := open(t, dir)
		put := b.Put(t.Context(), key, []byte("data"), storage.PutOptions{})
		got, err := b.Get(t.Context(), key, 100)
		if put == nil && (err != nil || string(got) != "data") {
			t.Errorf("got %q, %v", got, err)
		}
		if put != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("what cannot be put is read: %q, %v", got, err)
		}
		for object, err := range b.List(t.Context(), key) {
			if err != nil || put != nil || object.Key != key {
				t.Errorf("listed %q, %v", object.Key, err)
			}
		}
		deleted := b.Delete(t.Context(), key)
		if deleted != nil {
			t.Errorf("delete: %v", deleted)
		}
		for _, err := range []error{put, err, deleted} {
			if len(key) > 20 && err != nil && strings.Contains(err.Error(), key) {
				t.Errorf("the error tells the key: %v", err)
			}
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the folder: %v, %v", entries, err)
		}
		if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
			t.Errorf("the secret is %q, %v", got, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	})
}
