package models

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a folder may hold at most.
const (
	maxFiles   = 1000
	maxFolders = 6 // deep
	maxTotal   = 256 << 30
	maxJSON    = 1 << 20
	maxVocab   = 8 << 20 // tokenizers' files
	maxNesting = 64
	maxGraphs  = 32 // ONNX files
)

// ErrRefused: a file of the model, or its folder, breaks a rule that every
// model must keep. The error names the file and the reason.
var ErrRefused = errors.New("refused")

func refuse(name, format string, args ...any) error {
	return fmt.Errorf("%w: %q: %s", ErrRefused, name, fmt.Sprintf(format, args...))
}

// file is one file of a model.
type file struct {
	path string // slash-separated, relative to the model's folder
	size int64
}

// survey lists the files of a model, sorted. It opens none of them: what is
// neither a file nor a folder, or a link out of the folder, is refused.
type survey struct {
	fsys fs.FS
	// visible leaves out files and folders whose names begin with a dot.
	visible bool
	files   []file
	total   int64
}

func listFiles(fsys fs.FS, visible bool) ([]file, error) {
	s := &survey{fsys: fsys, visible: visible}
	if err := s.folder(".", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(s.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return s.files, nil
}

func (s *survey) folder(dir string, depth int) error {
	if depth > maxFolders {
		return refuse(dir, "folders are nested more than %d deep", maxFolders)
	}
	entries, err := s.entries(dir)
	if err != nil {
		return fmt.Errorf("list %q: %w", dir, err)
	}
	for _, e := range entries {
		if s.visible && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := path.Join(dir, e.Name())
		if !printable(e.Name()) {
			return refuse(name, "the name has characters that no file of a model has")
		}
		if err := s.entry(name, e, depth); err != nil {
			return err
		}
	}
	return nil
}

// entries reads a folder, but not more of it than can be accepted.
func (s *survey) entries(dir string) ([]fs.DirEntry, error) {
	d, err := s.fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	list, ok := d.(fs.ReadDirFile)
	if !ok {
		return nil, errors.New("not a folder")
	}
	entries, err := list.ReadDir(maxFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, refuse(dir, "it has more than %d files", maxFiles)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (s *survey) entry(name string, e fs.DirEntry, depth int) error {
	var info fs.FileInfo
	var err error
	switch {
	case e.IsDir():
		return s.folder(name, depth+1)
	case e.Type()&fs.ModeSymlink != 0:
		// Content-addressed stores link files; a link that leads out of the
		// folder could lead anywhere.
		if info, err = fs.Stat(s.fsys, name); err != nil {
			return refuse(name, "it is a link that leaves the model's folder or leads nowhere")
		}
	default:
		if info, err = e.Info(); err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
	}
	if !info.Mode().IsRegular() {
		return refuse(name, "it is no regular file but %s", kindOf(info.Mode()))
	}
	if len(s.files) == maxFiles {
		return refuse(name, "there are more than %d files", maxFiles)
	}
	if s.total += min(info.Size(), maxTotal+1); s.total > maxTotal {
		return refuse(name, "the files have more than %d GiB", int64(maxTotal)>>30)
	}
	s.files = append(s.files, file{path: name, size: info.Size()})
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a link to a folder"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	default:
		return mode.Type().String()
	}
}

// printable reports whether a name can stand in a manifest, a message and a
// line of a digest.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.Contains(name, "\\") && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// files opens the model's files. On disk no link can lead out of the folder.
func (m *Model) files() (fsys fs.FS, done func(), err error) {
	if m.Dir == "" {
		return m.FS, func() {}, nil
	}
	root, err := os.OpenRoot(m.Dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open model: %w", err)
	}
	return root.FS(), func() { _ = root.Close() }, nil
}

// readBounded reads a small file whole. It is no pipe or device, on which
// opening could wait for ever.
func readBounded(fsys fs.FS, name string, most int64) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, refuse(name, "it is no regular file but %s", kindOf(info.Mode()))
	}
	if info.Size() > most {
		return nil, refuse(name, "it has %d bytes; the limit is %d", info.Size(), most)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if err != nil {
		return nil, err
	}
	return data[:n], nil
}
