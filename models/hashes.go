package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stamp tells one state of a file from another: whoever changes a file changes
// its ctime, which cannot be set. Times are in nanoseconds.
type stamp struct {
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"`
	Changed  int64  `json:"changed"`
}

// settled is how old a change must be before a stamp can stand for the content:
// two changes within one tick of the file system's clock have the same stamp.
const settled = 100 * time.Millisecond

// stampOf is the stamp of an open file; ok is false for what is not on disk.
func stampOf(f fs.File) (s stamp, ok bool, err error) {
	onDisk, ok := f.(*os.File)
	if !ok {
		return stamp{}, false, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(onDisk.Fd()), &st); err != nil {
		return stamp{}, false, err
	}
	return stamp{Device: st.Dev, Inode: st.Ino, Size: st.Size, Modified: st.Mtim.Nano(), Changed: st.Ctim.Nano()}, true, nil
}

// hashes remembers the SHA-256 of files by their stamps, in memory and in a
// folder that outlives the process. The folder is the user's cache and not the
// models': that may be read-only, and whoever can write there could otherwise
// have changed weights pass.
type hashes struct {
	dir string // empty: memory only

	mu     sync.Mutex
	known  map[stamp]string
	loaded map[string]bool // model folders whose entries are in known

	// reads counts the files that were read to hash them.
	reads atomic.Int64
}

// newHashes uses the user's cache if there is one.
func newHashes() *hashes {
	h := &hashes{known: map[stamp]string{}, loaded: map[string]bool{}}
	if dir, err := os.UserCacheDir(); err == nil {
		h.dir = filepath.Join(dir, "imgus-worker", "digests")
	}
	return h
}

// remembered is a file of the cache: what is known of one model's folder.
type remembered struct {
	Folder string            `json:"folder"`
	Files  []rememberedEntry `json:"files"`
}

type rememberedEntry struct {
	stamp

	SHA256 string `json:"sha256"`
}

func (h *hashes) place(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return filepath.Join(h.dir, hex.EncodeToString(sum[:12])+".json")
}

// load brings what earlier processes knew of a folder. A cache that cannot be
// read only costs time.
func (h *hashes) load(folder string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dir == "" || h.loaded[folder] {
		return
	}
	h.loaded[folder] = true
	r, err := readRemembered(h.place(folder))
	if err != nil || r.Folder != folder {
		return
	}
	for _, e := range r.Files {
		if validDigest.MatchString(e.SHA256) {
			h.known[e.stamp] = e.SHA256
		}
	}
}

func readRemembered(name string) (remembered, error) {
	var r remembered
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

// save keeps what is known of a folder's files for later processes, and drops
// the entries of folders that are gone.
func (h *hashes) save(folder string, stamps []stamp) {
	if h.dir == "" {
		return
	}
	r := remembered{Folder: folder}
	h.mu.Lock()
	for _, s := range stamps {
		if sum, ok := h.known[s]; ok {
			r.Files = append(r.Files, rememberedEntry{s, sum})
		}
	}
	h.mu.Unlock()
	data, err := json.Marshal(r)
	if err != nil || os.MkdirAll(h.dir, 0o700) != nil || writeAtomically(h.place(folder), data) != nil {
		return // it stays in memory
	}
	others, _ := filepath.Glob(filepath.Join(h.dir, "*.json")) // the pattern is good
	for _, name := range others {
		r, err := readRemembered(name)
		if err != nil {
			continue
		}
		if _, err := os.Stat(r.Folder); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(name)
		}
	}
}

func writeAtomically(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// sum is the SHA-256 of a file, in hex. It is read only if its stamp is new,
// or anew is set. ok is false where there is no stamp to remember it by.
func (h *hashes) sum(ctx context.Context, fsys fs.FS, name string, anew bool) (sum string, s stamp, ok bool, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", stamp{}, false, err
	}
	defer f.Close()
	before, onDisk, err := stampOf(f)
	if err != nil {
		return "", stamp{}, false, err
	}
	if onDisk && !anew {
		if sum, ok := h.get(before); ok {
			return sum, before, true, nil
		}
	}
	opened := time.Now()
	if sum, err = h.read(ctx, f); err != nil {
		return "", stamp{}, false, err
	}
	after, _, err := stampOf(f)
	if err != nil {
		return "", stamp{}, false, err
	}
	if before != after {
		return "", stamp{}, false, fmt.Errorf("%w: %q: it changed while it was read", ErrRefused, name)
	}
	if !onDisk || opened.Sub(time.Unix(0, before.Changed)) < settled {
		return sum, before, false, nil
	}
	h.put(before, sum)
	return sum, before, true, nil
}

func (h *hashes) get(s stamp) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum, ok := h.known[s]
	return sum, ok
}

func (h *hashes) put(s stamp, sum string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[s] = sum
}

// seed takes in digests of a model's files that were made when they were
// written.
func (h *hashes) seed(m *Model, sums map[string]string) []stamp {
	var stamps []stamp
	for name, sum := range sums {
		f, err := m.FS.Open(name)
		if err != nil {
			continue // it is hashed when it is needed
		}
		s, ok, err := stampOf(f)
		_ = f.Close()
		if err == nil && ok && time.Since(time.Unix(0, s.Changed)) >= settled {
			h.put(s, sum)
			stamps = append(stamps, s)
		}
	}
	return stamps
}

// buffers for reading: fewer, larger reads of files of gigabytes.
var buffers = sync.Pool{New: func() any { return new([1 << 20]byte) }}

func (h *hashes) read(ctx context.Context, r io.Reader) (string, error) {
	h.reads.Add(1)
	buffer, _ := buffers.Get().(*[1 << 20]byte)
	defer buffers.Put(buffer)
	sum := sha256.New()
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := r.Read(buffer[:])
		sum.Write(buffer[:n])
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		case err != nil:
			return "", err
		}
	}
}

// digestOf is the digest of files: the SHA-256 over their sorted lines.
func digestOf(lines []string) string {
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:])
}
