package directory_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/directory"
	"github.com/imgus/worker/storage/storagetest"
)

func open(t *testing.T, dir string) *directory.Bucket {
	t.Helper()
	b, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func put(t *testing.T, b storage.Bucket, key, data string) {
	t.Helper()
	if err := b.Put(t.Context(), key, []byte(data), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// files are the paths below dir that an operator sees.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path != dir {
			if strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
			found = append(found, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDirectory(t *testing.T) {
	storagetest.Accept(t, func(t *testing.T) storage.Bucket { return open(t, t.TempDir()) })
}

func TestOneFolderOpenTwice(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir)
	if err := a.PutIfAbsent(t.Context(), "results/1/result.json", []byte("a"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(t.Context(), "results/1/result.json", []byte("b"), storage.PutOptions{}); !errors.Is(err, storage.ErrExists) {
		t.Errorf("got %v", err)
	}
	if got, err := b.Get(t.Context(), "results/1/result.json", 1); err != nil || string(got) != "a" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWhatAnOperatorSees(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made")
	b := open(t, dir)
	put(t, b, "results/1/x-0.png", "picture")
	if diff := cmp.Diff([]string{"results", "results/1", "results/1/x-0.png"}, files(t, dir)); diff != "" {
		t.Error(diff)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "results/1/x-0.png")); err != nil || string(got) != "picture" {
		t.Errorf("got %q, %v", got, err)
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := b.Delete(t.Context(), "results/1/x-0.png"); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	for _, hidden := range []string{".imgus/tmp", ".imgus/sha256"} {
		if left, err := os.ReadDir(filepath.Join(dir, hidden)); err != nil || len(left) > 0 {
			t.Errorf("left over in %s: %v, %v", hidden, left, err)
		}
	}
}

func TestCorruption(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	file := filepath.Join(dir, "inputs/a")
	for name, damage := range map[string]func(data []byte) []byte{
		"flipped": func(data []byte) []byte { data[3] ^= 1; return data },
		"cut":     func(data []byte) []byte { return data[:4] },
		"empty":   func([]byte) []byte { return nil },
		"longer":  func(data []byte) []byte { return append(data, 0) },
	} {
		put(t, b, "inputs/a", "the data")
		if err := os.WriteFile(file, damage([]byte("the data")), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Get(t.Context(), "inputs/a", 100); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	put(t, b, "inputs/a", "other data")
	if got, err := b.Get(t.Context(), "inputs/a", 100); err != nil || string(got) != "other data" {
		t.Errorf("put again: got %q, %v", got, err)
	}
}

func TestFilePutThereByHand(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "inputs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "inputs/photo.jpg"), []byte("photo"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), "inputs/photo.jpg", 100); err != nil || string(got) != "photo" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := b.Delete(t.Context(), "inputs/photo.jpg"); err != nil || len(files(t, dir)) != 0 {
		t.Errorf("delete: %v, left %v", err, files(t, dir))
	}
}

func TestLeftoversOfACrash(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	left, used := filepath.Join(dir, ".imgus/tmp/LEFT"), filepath.Join(dir, ".imgus/tmp/USED")
	for _, file := range []string{left, used} {
		if err := os.WriteFile(file, []byte("a photo"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if err := syscall.Flock(int(writer.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a writer that is gone is still there (%v)", err)
	}
	if _, err := os.Stat(used); err != nil {
		t.Errorf("the file that is in use is gone: %v", err)
	}
	for u, err := range b.Uploads(t.Context()) {
		if err != nil || u.ID != "USED" || u.Abandoned {
			t.Errorf("found %+v, %v", u, err)
		}
	}
}

func TestLinksLeadNowhere(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, dir)
	for name, target := range map[string]string{
		"file": filepath.Join(outside, "secret"), "folder": outside, "up": "..", "dangling": "nothing", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"file", "folder/secret", "up/" + filepath.Base(outside) + "/secret", "dangling", "dangling/a", "loop"} {
		if got, err := b.Get(t.Context(), key, 100); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("get %s: got %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"folder/new", "up/new", "dangling/a"} {
		if err := b.Put(t.Context(), key, []byte("x"), storage.PutOptions{}); err == nil {
			t.Errorf("put %s succeeds", key)
		}
	}
	for object, err := range b.List(t.Context(), "") {
		t.Errorf("listed %s, %v", object.Key, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside is %v, %v", entries, err)
	}
}

func TestKeysThatCannotBe(t *testing.T) {
	b := open(t, t.TempDir())
	put(t, b, "inputs/file", "1")
	put(t, b, "inputs/folder/file", "1")
	for _, key := range []string{
		"", ".", "..", "/", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a\x00b", ".imgus", ".imgus/tmp/a", ".IMGUS/tmp/a",
		"inputs/file/below", "inputs/folder", strings.Repeat("k", 300),
	} {
		for _, put := range []func(context.Context, string, []byte, storage.PutOptions) error{b.Put, b.PutIfAbsent} {
			err := put(t.Context(), key, []byte("2"), storage.PutOptions{})
			if err == nil || errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrExists) ||
				len(key) > 2 && strings.Contains(err.Error(), key) {
				t.Errorf("put %q: got %v", key, err)
			}
		}
		if _, err := b.Get(t.Context(), key, 100); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("get %q: got %v", key, err)
		}
		if err := b.Delete(t.Context(), key); err != nil {
			t.Errorf("delete %q: got %v", key, err)
		}
	}
	if got, err := b.Get(t.Context(), "inputs/folder/file", 100); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAway(t *testing.T) {
	dir := t.TempDir()
	b, err := directory.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "inputs/a", "1")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for doing, try := range map[string]func() error{
		"get":    func() error { _, err := b.Get(t.Context(), "inputs/a", 100); return err },
		"put":    func() error { return b.Put(t.Context(), "inputs/a", nil, storage.PutOptions{}) },
		"delete": func() error { return b.Delete(t.Context(), "inputs/a") },
		"check":  func() error { return b.Check(t.Context()) },
	} {
		if err := try(); !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "inputs") || strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", doing, err)
		}
	}
	if _, err := directory.Open("/dev/null/folder"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("open below a file: got %v", err)
	}
}
