package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgus/worker/job"
)

// ErrExists: the catalogue has a model of the name already.
var ErrExists = errors.New("there is a model of this name")

// ErrUneditable: the UNet cannot be run with a timestep per sample.
var ErrUneditable = errors.New("the unet takes no timestep per sample")

// ImportOptions say how a model comes into the catalogue.
type ImportOptions struct {
	// Name is the model's name; empty: what its manifest says, else the name of
	// its folder.
	Name string
	// Replace lets the model take the place of one of the same name.
	Replace bool
	// SameNoise checks that two files of a UNet predict the same noise, one
	// with a timestep for the batch and one with a timestep per sample. Nil, and
	// ErrUneditable, leave the graph as it is.
	SameNoise func(ctx context.Context, batch, perSample string) error
	// Smoke makes a picture with the model, before it is in the catalogue. Nil
	// leaves it out.
	Smoke func(ctx context.Context, m *Model) error
	// Progress is told what is done, and how many bytes of how many where that
	// is known.
	Progress func(step string, done, total int64)
}

// What the hidden folders in the catalogue's directory are called.
const (
	stagePrefix    = ".import-"
	replacedPrefix = ".replaced-"
)

// Import copies a model's folder into the catalogue: checked as Model.Check
// does, with a family, digests of all files, and a UNet that takes a timestep
// per sample where its graph can be edited so. Files whose names begin with a
// dot are left out. The model appears whole or not at all. Errors: ErrRefused
// with file and reason, ErrExists, and those of the options' functions.
func (c *Catalogue) Import(ctx context.Context, dir string, o ImportOptions) (_ *Model, err error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if c.dir == "" {
		return nil, errors.New("import model: there is no directory of models")
	}
	o.Progress("checking", 0, 0)
	source, err := openSource(dir, o.Name)
	if err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	defer source.root.Close()
	place, err := c.place(source.manifest.Name, o.Replace)
	if err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	if err := makeFolder(c.dir); err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	c.sweep()
	stage, err := os.MkdirTemp(c.dir, stagePrefix)
	if err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(stage)
		}
	}()
	stamps, err := c.fill(ctx, stage, source, o)
	if err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("import model: %w", context.Cause(ctx))
	}
	if err := replace(stage, place); err != nil {
		return nil, fmt.Errorf("import model: %w", err)
	}
	m, err := c.open(place)
	if err != nil {
		return nil, err
	}
	c.hashes.save(m.folder(), stamps) // the files are the same under the folder's new name
	return m, nil
}

// fill makes the whole model in the staging folder. It gives the stamps of the
// files whose digests are known.
func (c *Catalogue) fill(ctx context.Context, stage string, source *source, o ImportOptions) ([]stamp, error) {
	if err := os.Chmod(stage, 0o755); err != nil { //nolint:gosec // models are no secret
		return nil, err
	}
	sums, err := copyFiles(ctx, source, stage, o.Progress)
	if err != nil {
		return nil, err
	}
	// The source's own digests are of its files, so they are compared before
	// anything is edited.
	manifest := source.manifest
	if err := manifest.matches(sums); err != nil {
		return nil, err
	}
	// What was copied is checked again: the source may have changed meanwhile.
	m := &Model{Manifest: manifest, FS: os.DirFS(stage), Dir: stage, hashes: c.hashes}
	if err := m.Check(); err != nil {
		return nil, err
	}
	if o.SameNoise != nil {
		o.Progress("looking at the timestep", 0, 0)
		if err := vectorTimestep(ctx, stage, sums, o); err != nil {
			return nil, err
		}
	}
	manifest.Files = sums
	if err := writeManifest(stage, manifest); err != nil {
		return nil, err
	}
	stamps := c.hashes.seed(m, sums)
	if o.Smoke != nil {
		o.Progress("making a picture", 0, 0)
		if m, err = c.open(stage); err != nil {
			return nil, err
		}
		if err := o.Smoke(ctx, m); err != nil {
			return nil, fmt.Errorf("the model makes no picture: %w", err)
		}
	}
	return stamps, syncFolders(stage)
}

// source is a folder that is checked and understood.
type source struct {
	root     *os.Root
	files    []file
	manifest Manifest
}

// openSource checks the folder and writes its manifest.
func openSource(dir, name string) (_ *source, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &source{root: root}
	defer func() {
		if err != nil {
			_ = root.Close()
		}
	}()
	fsys := root.FS()
	if s.files, err = listFiles(fsys, true); err != nil {
		return nil, err
	}
	m, absent, err := readManifest(fsys)
	if err != nil {
		return nil, err
	}
	facts, err := readFacts(fsys)
	if err != nil {
		return nil, err
	}
	if absent {
		if m, err = newManifest(fsys, facts); err != nil {
			return nil, err
		}
		if m.Name, err = folderName(dir); err != nil {
			return nil, err
		}
	}
	if name != "" {
		m.Name = name
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	s.manifest = m
	return s, checkFiles(fsys, s.files, m.Family)
}

// newManifest describes a model that has no manifest.
func newManifest(fsys fs.FS, f *facts) (Manifest, error) {
	family, err := f.family()
	if err != nil {
		return Manifest{}, fmt.Errorf("find family: %w", err)
	}
	base, err := f.base()
	if err != nil {
		return Manifest{}, fmt.Errorf("find family: %w", err)
	}
	width, height := f.nativeSize(base)
	d := f.defaults(family)
	d.Width, d.Height = &width, &height
	if family == Pix2Pix {
		d.Strength = nil
	} else {
		d.ImageGuidanceScale = nil
	}
	// Up to twice the trained size each way, where pictures begin to repeat
	// themselves, but small models may grow as far as a person can see.
	side := func(native int) int { return min(max(2*native, 512), job.HardLimits().Width) }
	return Manifest{
		Family: family, License: findLicense(fsys), Defaults: d,
		Limits: job.Limits{Width: side(max(width, height)), Height: side(max(width, height))},
	}, nil
}

// place is where the model goes.
func (c *Catalogue) place(name string, replace bool) (string, error) {
	place := filepath.Join(c.dir, name)
	if _, err := os.Lstat(place); err == nil && !replace {
		return "", fmt.Errorf("%w: %s", ErrExists, name)
	}
	entries, err := c.List()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.Name != name {
			continue
		}
		if !replace {
			return "", fmt.Errorf("%w: %s", ErrExists, name)
		}
		if e.Err == nil && e.Model.Dir != "" && e.Model.Dir != place {
			return "", fmt.Errorf("%w: %s, in the folder %s", ErrExists, name, filepath.Base(e.Model.Dir))
		}
	}
	return place, nil
}

// replace moves the stage to its place and removes what was there.
func replace(stage, place string) error {
	err := exchange(stage, place)
	switch {
	case err == nil:
		_ = os.RemoveAll(stage) // what was there; the next import sweeps what is left
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(stage, place)
	default: // a file system that cannot exchange
		err = replaceInSteps(stage, place)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(place))
}

func replaceInSteps(stage, place string) error {
	old := filepath.Join(filepath.Dir(place), replacedPrefix+strings.TrimPrefix(filepath.Base(stage), stagePrefix))
	if err := os.Rename(place, old); err != nil {
		return err
	}
	if err := os.Rename(stage, place); err != nil {
		return errors.Join(err, os.Rename(old, place))
	}
	_ = os.RemoveAll(old)
	return nil
}

// stale is how old a staging folder is that no import works on any more.
const stale = 24 * time.Hour

// sweep removes what imports that were killed left behind.
func (c *Catalogue) sweep() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagePrefix) && !strings.HasPrefix(e.Name(), replacedPrefix) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > stale {
			_ = os.RemoveAll(filepath.Join(c.dir, e.Name()))
		}
	}
}

func writeManifest(dir string, m Manifest) error {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(m), enc.Close()); err != nil {
		return fmt.Errorf("write %s: %w", ManifestName, err)
	}
	return writeSynced(filepath.Join(dir, ManifestName), func(f *os.File) error {
		_, err := f.Write(b.Bytes())
		return err
	})
}
