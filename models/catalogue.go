// Package models is what a model is on disk: its manifest, its family, its
// digest, and the catalogue of all of them.
package models

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnknown: the catalogue has no model of the name.
var ErrUnknown = errors.New("unknown model")

// Model is one entry of the catalogue.
type Model struct {
	Manifest Manifest
	// Defaults are the manifest's over the family's.
	Defaults Defaults
	FS       fs.FS
	// Dir is the folder on disk; empty for a model inside the binary.
	Dir string
}

// Catalogue finds models by name: the folders of one directory, and models that
// are open already. The directory is read anew each time, so that an operator can
// add a model to a running worker.
type Catalogue struct {
	dir   string
	fixed []*Model
}

// New makes a catalogue of the folders in dir, which need not exist, and of
// models that are open already, such as the one inside the binary. A folder
// hides an open model of its name. An empty dir stands for no folders.
func New(dir string, fixed ...*Model) *Catalogue {
	return &Catalogue{dir: dir, fixed: fixed}
}

// Entry is a model of the catalogue, or why a folder is none.
type Entry struct {
	Name  string
	Model *Model
	Err   error
}

// List lists everything in the catalogue by name, broken folders too.
func (c *Catalogue) List() ([]Entry, error) {
	var entries []Entry
	var folders []fs.DirEntry
	if c.dir != "" {
		var err error
		if folders, err = os.ReadDir(c.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list models: %w", err)
		}
	}
	for _, f := range folders {
		if strings.HasPrefix(f.Name(), ".") || !c.isFolder(f.Name()) {
			continue
		}
		m, err := Open(filepath.Join(c.dir, f.Name()))
		e := Entry{Name: f.Name(), Model: m, Err: err}
		if err == nil {
			e.Name = m.Manifest.Name
		}
		entries = append(entries, e)
	}
	for _, m := range c.fixed {
		e := Entry{Name: m.Manifest.Name, Model: m}
		// A folder that is no model hides nothing.
		if !slices.ContainsFunc(entries, func(o Entry) bool { return o.Name == e.Name && o.Err == nil }) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// isFolder follows a link: operators keep models on other disks.
func (c *Catalogue) isFolder(name string) bool {
	info, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil && info.IsDir()
}

// Find finds a model by its name. The error is ErrUnknown with the names there
// are, or says what is wrong with the model's folder.
func (c *Catalogue) Find(name string) (*Model, error) {
	entries, err := c.List()
	if err != nil {
		return nil, err
	}
	var names []string
	var broken error
	for _, e := range entries {
		switch {
		case e.Err == nil && e.Name == name:
			return e.Model, nil
		case e.Err == nil:
			names = append(names, e.Name)
		case e.Name == name:
			broken = e.Err
		}
	}
	if broken != nil {
		return nil, broken
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: the catalogue is empty", ErrUnknown)
	}
	return nil, fmt.Errorf("%w: there are %s", ErrUnknown, strings.Join(names, ", "))
}

// Open opens the model in a folder.
func Open(dir string) (*Model, error) {
	return open(os.DirFS(dir), dir, filepath.Base(dir))
}

// OpenFS opens a model that is not a folder on disk, and has a manifest.
func OpenFS(fsys fs.FS) (*Model, error) { return open(fsys, "", "") }

func open(fsys fs.FS, dir, folder string) (*Model, error) {
	m, absent, err := readManifest(fsys)
	if err != nil {
		return nil, err
	}
	if absent {
		m.Name = folder
		if m.Family, err = findFamily(fsys); err != nil {
			return nil, err
		}
	}
	return &Model{Manifest: m, Defaults: m.Defaults.over(m.Family.builtin()), FS: fsys, Dir: dir}, nil
}

// Digest is the model's digest, "sha256:" and hex: the SHA-256 over the sorted
// lines "<hex>  <path>\n" of all its files but the manifest.
func (m *Model) Digest() (string, error) {
	var lines []string
	err := fs.WalkDir(m.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == ManifestName {
			return err
		}
		sum, err := fileDigest(m.FS, path)
		lines = append(lines, sum+"  "+path+"\n")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("digest model: %w", err)
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func fileDigest(fsys fs.FS, path string) (string, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
