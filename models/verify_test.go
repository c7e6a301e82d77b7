package models_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgus/worker/models"
)

// seal gives a model a manifest with the digests of its files.
func seal(t *testing.T, dir string) []string {
	t.Helper()
	files, names := map[string]string{}, []string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "model.yaml" {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		sum := sha256.Sum256(data)
		files[name], names = hex.EncodeToString(sum[:]), append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := yaml.Marshal(models.Manifest{Name: "m", Family: models.SD1, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	write(t, data, dir, "model.yaml")
	return names
}

// settle waits until a change of now can be told from a later one.
func settle() { time.Sleep(models.Settled + 20*time.Millisecond) }

func verify(t *testing.T, m *models.Model) string {
	t.Helper()
	digest, err := m.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestVerifyRefusesOneFlippedByte(t *testing.T) {
	dir := copyModel(t, "sd1")
	names := seal(t, dir)
	settle()
	catalogue := models.New(filepath.Dir(dir))
	find := func() *models.Model {
		m, err := catalogue.Find("m")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	digest := verify(t, find())
	for _, name := range names {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		flip := func(at int) {
			data[at] ^= 1
			write(t, data, path)
			// Whoever hides a change sets the time back.
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		for _, at := range []int{0, len(data) / 2, len(data) - 1} {
			flip(at)
			if _, err := find().Verify(t.Context()); !errors.Is(err, models.ErrRefused) || !strings.Contains(err.Error(), `"`+name+`"`) {
				t.Errorf("%s, byte %d: %v", name, at, err)
			}
			flip(at)
		}
	}
	if got := verify(t, find()); got != digest {
		t.Error("the digest is another after all was put back")
	}
}

func TestVerifyNamesExtraAndMissingFiles(t *testing.T) {
	dir := copyModel(t, "sd1")
	seal(t, dir)
	write(t, []byte("x"), dir, "unet", "extra")
	if _, err := openModel(t, dir).Verify(t.Context()); !errors.Is(err, models.ErrRefused) || !strings.Contains(err.Error(), `"unet/extra"`) {
		t.Errorf("got %v", err)
	}
	remove(t, dir, "unet/extra")
	remove(t, dir, "unet/config.json")
	if _, err := openModel(t, dir).Verify(t.Context()); !errors.Is(err, models.ErrRefused) || !strings.Contains(err.Error(), `"unet/config.json"`) {
		t.Errorf("got %v", err)
	}
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	dir := copyModel(t, "sd1")
	names := seal(t, dir)
	settle()
	m := openModel(t, dir)
	digest := verify(t, m)
	if m.Reads() != int64(len(names)) {
		t.Fatalf("%d files of %d were read", m.Reads(), len(names))
	}
	if verify(t, m) != digest || m.Reads() != int64(len(names)) {
		t.Error("files were read again")
	}
	// Another process finds what this one knew.
	other := openModel(t, dir)
	if verify(t, other) != digest || other.Reads() != 0 {
		t.Errorf("%d files were read by another process", other.Reads())
	}
	if _, err := other.VerifyAnew(t.Context()); err != nil || other.Reads() != int64(len(names)) {
		t.Errorf("%d files were read anew, %v", other.Reads(), err)
	}
	now := time.Now()
	if err := os.Chtimes(filepath.Join(dir, names[0]), now, now); err != nil {
		t.Fatal(err)
	}
	third := openModel(t, dir)
	if verify(t, third); third.Reads() != 1 {
		t.Errorf("%d files were read after one was touched", third.Reads())
	}
}

func TestFreshFilesAreNotTrusted(t *testing.T) {
	dir := copyModel(t, "sd1")
	names := seal(t, dir)
	write(t, []byte("{}"), dir, "unet", "config.json")
	m := openModel(t, dir)
	if _, err := m.Digest(); err != nil {
		t.Fatal(err)
	}
	before := m.Reads()
	if _, err := m.Digest(); err != nil || m.Reads() == before {
		t.Errorf("a file of this very moment was not read again (%d files, %v)", len(names), err)
	}
}

func TestWithoutACache(t *testing.T) {
	for name, cache := range map[string]string{"no home": "", "no place for one": "/proc/nothing"} {
		t.Setenv("XDG_CACHE_HOME", cache)
		t.Setenv("HOME", cache)
		dir := copyModel(t, "sd1")
		names := seal(t, dir)
		settle()
		m := openModel(t, dir)
		verify(t, m)
		if verify(t, m); m.Reads() != int64(len(names)) {
			t.Errorf("%s: %d files of %d were read", name, m.Reads(), len(names))
		}
	}
}

func TestBrokenCacheOnlyCostsTime(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	dir := copyModel(t, "sd1")
	seal(t, dir)
	settle()
	digest := verify(t, openModel(t, dir))
	files, err := filepath.Glob(filepath.Join(cache, "imgus-worker", "digests", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	write(t, []byte("not JSON"), files[0])
	if verify(t, openModel(t, dir)) != digest {
		t.Error("another digest")
	}
	// The next save drops what is known of folders that are gone.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	second := copyModel(t, "turbo")
	seal(t, second)
	settle()
	verify(t, openModel(t, second))
	if files, _ = filepath.Glob(filepath.Join(cache, "imgus-worker", "digests", "*.json")); len(files) != 1 {
		t.Errorf("the cache has %v", files)
	}
}

func TestVerifyWithoutDigests(t *testing.T) {
	m := demoModel(t)
	digest := verify(t, m)
	if plain, err := m.Digest(); err != nil || plain != digest {
		t.Errorf("%s and %s, %v", digest, plain, err)
	}
	reads := m.Reads()
	if verify(t, m); m.Reads() != reads {
		t.Error("the model inside the program was read twice")
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	dir := copyModel(t, "sd1")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	cancel(why)
	if _, err := openModel(t, dir).Verify(ctx); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}
