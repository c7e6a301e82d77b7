package models

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Verify checks every file of the model against the manifest's digests, and
// gives the model's own: "sha256:" and hex, the SHA-256 over the sorted lines
// "<hex>  <path>\n" of all its files but the manifest. A file that differs, is
// missing, or is not in the manifest is ErrRefused with its name. A manifest
// without digests accepts what is there. A file whose size, inode and times are
// those of its last reading is not read again, which outlives the process where
// the user has a cache; a model inside the binary is read once. The error is
// the cause of ctx when that ended it.
func (m *Model) Verify(ctx context.Context) (string, error) { return m.verify(ctx, false) }

// VerifyAnew does what Verify does, and reads every file.
func (m *Model) VerifyAnew(ctx context.Context) (string, error) { return m.verify(ctx, true) }

// Digest is the model's digest as Verify gives it, whatever the manifest says.
func (m *Model) Digest() (string, error) {
	sums, err := m.sums(context.Background(), false)
	if err != nil {
		return "", fmt.Errorf("digest model: %w", err)
	}
	return digestOf(lines(sums)), nil
}

func (m *Model) verify(ctx context.Context, anew bool) (string, error) {
	sums, err := m.sums(ctx, anew)
	if err == nil {
		err = m.Manifest.matches(sums)
	}
	if err != nil {
		return "", fmt.Errorf("verify model: %w", err)
	}
	return digestOf(lines(sums)), nil
}

// matches compares digests of all files with the manifest's.
func (m Manifest) matches(sums map[string]string) error {
	if len(m.Files) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		switch sum, ok := sums[name]; {
		case !ok:
			return refuse(name, "it is missing; %s has its digest", ManifestName)
		case sum != m.Files[name]:
			return refuse(name, "its SHA-256 is %s and not that of %s", sum, ManifestName)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if _, ok := m.Files[name]; !ok {
			return refuse(name, "%s does not name it", ManifestName)
		}
	}
	return nil
}

// Digest is the digest of the model that the manifest describes, as Verify gives
// it; "" if it names no files.
func (m Manifest) Digest() string {
	if len(m.Files) == 0 {
		return ""
	}
	return digestOf(lines(m.Files))
}

func lines(sums map[string]string) []string {
	var out []string
	for name, sum := range sums {
		out = append(out, sum+"  "+name+"\n")
	}
	slices.Sort(out)
	return out
}

// sums gives the SHA-256 of every file but the manifest.
func (m *Model) sums(ctx context.Context, anew bool) (map[string]string, error) {
	if m.Dir == "" {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.inside != nil && !anew {
			return m.inside, nil
		}
	}
	fsys, done, err := m.files()
	if err != nil {
		return nil, err
	}
	defer done()
	files, err := listFiles(fsys, false)
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f file) bool { return f.path == ManifestName })
	folder := m.folder()
	if folder != "" {
		m.hashes.load(folder)
	}
	sums, err := m.hashes.all(ctx, fsys, files, folder, anew)
	if err == nil && m.Dir == "" {
		m.inside = sums
	}
	return sums, err
}

// folder is the model's folder by its full name, or "".
func (m *Model) folder() string {
	if m.Dir == "" {
		return ""
	}
	folder, err := filepath.Abs(m.Dir)
	if err != nil {
		return ""
	}
	return folder
}

// all gives the SHA-256 of every file, several at a time.
func (h *hashes) all(ctx context.Context, fsys fs.FS, files []file, folder string, anew bool) (map[string]string, error) {
	found := make([]string, len(files))
	stamps := make([]stamp, len(files))
	known := h.reads.Load()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(min(runtime.GOMAXPROCS(0), 4)) // hashing is bound by the disk beyond
	for i, f := range files {
		group.Go(func() error {
			sum, s, ok, err := h.sum(ctx, fsys, f.path, anew)
			if err != nil {
				return fmt.Errorf("hash %q: %w", f.path, err)
			}
			if found[i] = sum; ok {
				stamps[i] = s
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if folder != "" && h.reads.Load() > known {
		h.save(folder, stamps)
	}
	sums := make(map[string]string, len(files))
	for i, f := range files {
		sums[f.path] = found[i]
	}
	return sums, nil
}
