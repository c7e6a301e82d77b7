// Package models is what a model is on disk: its manifest, its family, its
// digest, and the catalogue of all of them.
package models

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

	hashes *hashes
	mu     sync.Mutex
	// inside are the digests of a model that is no folder; under mu.
	inside map[string]string
}

// Catalogue finds models by name: the folders of one directory, and models that
// are open already. The directory is read anew each time, so that an operator can
// add a model to a running worker.
type Catalogue struct {
	dir    string
	fixed  []*Model
	hashes *hashes
}

// New makes a catalogue of the folders in dir, which need not exist, and of
// models that are open already, such as the one inside the binary. A folder
// hides an open model of its name. An empty dir stands for no folders.
func New(dir string, fixed ...*Model) *Catalogue {
	return &Catalogue{dir: dir, fixed: fixed, hashes: newHashes()}
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
		m, err := c.open(filepath.Join(c.dir, f.Name()))
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
	return open(os.DirFS(dir), dir, newHashes())
}

// open opens a model of the catalogue, which knows the digests of its models.
func (c *Catalogue) open(dir string) (*Model, error) {
	return open(os.DirFS(dir), dir, c.hashes)
}

// OpenFS opens a model that is not a folder on disk, and has a manifest.
func OpenFS(fsys fs.FS) (*Model, error) { return open(fsys, "", newHashes()) }

func open(fsys fs.FS, dir string, known *hashes) (*Model, error) {
	m, absent, err := readManifest(fsys)
	if err != nil {
		return nil, err
	}
	if absent {
		if m.Name, err = folderName(dir); err != nil {
			return nil, err
		}
		if m.Family, m.Defaults, err = findFamily(fsys); err != nil {
			return nil, err
		}
	}
	return &Model{Manifest: m, Defaults: m.Defaults.over(m.Family.builtin()), FS: fsys, Dir: dir, hashes: known}, nil
}

// folderName is the name of a model whose manifest does not say one.
func folderName(dir string) (string, error) {
	if dir == "" {
		return "", fmt.Errorf("open model: %w: there is no %s", fs.ErrNotExist, ManifestName)
	}
	full, err := filepath.Abs(dir) // "." has a name too
	if err != nil {
		return "", fmt.Errorf("open model: %w", err)
	}
	return filepath.Base(full), nil
}
