package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"runtime/debug"
	"time"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// pipeline is what the engine asks of a loaded model: *diffusion.Pipeline.
type pipeline interface {
	Multiple() int
	DefaultSize() (width, height int)
	TwoPrompts() bool
	TakesSizes() bool
	EditsPhotos() bool
	Supports(t diffusion.Task) error
	Samples(t diffusion.Task) int
	Scheduler(name string) (scheduler.Scheduler, error)
	Generate(ctx context.Context, t diffusion.Task, progress func(job.Progress), each func(i int, pixels []float32) error) error
	Close() error
}

// opener loads a model onto a device.
type opener func(m *models.Model, o onnx.Options) (pipeline, error)

func openWith(runtime *onnx.Runtime, log *slog.Logger) opener {
	return func(m *models.Model, o onnx.Options) (pipeline, error) {
		verify := func(ctx context.Context) error {
			err := m.Check()
			if err == nil {
				_, err = m.Verify(ctx) // hashes only what has changed
			}
			return err
		}
		p, err := diffusion.Open(runtime, diffusion.Files{FS: m.FS, Dir: m.Dir, Verify: verify, Log: log.With("model", m.Manifest.Name)}, o)
		if err != nil {
			return nil, err // not p: a nil pointer would be an interface that is not nil
		}
		return p, nil
	}
}

// load gives the model, loading it if the device does not have it; others that
// were not used for long make room.
func (e *Engine) load(ctx context.Context, d *device, name string) (*loaded, error) {
	if l := d.memory.find(name); l != nil {
		return l, nil
	}
	model, err := e.options.Catalogue.Find(name)
	if errors.Is(err, models.ErrUnknown) {
		return nil, job.Errorf(job.UnknownModel, "model: %s", err)
	}
	if err != nil {
		return nil, loadError(err)
	}
	files, err := survey(model.FS)
	if err != nil {
		return nil, loadError(err)
	}
	if err := d.broken.still(name, files); err != nil {
		return nil, loadError(err)
	}
	f := d.memory.footprints[name]
	if f == nil {
		f = &footprint{}
		d.memory.footprints[name] = f
	}
	f.weights = max(f.weights, files.weights)
	if err := e.makeRoom(d, name, f.weights); err != nil {
		return nil, err
	}

	start := time.Now()
	grown := d.growth()
	pipeline, sum, err := e.open(ctx, d, model)
	if errors.Is(err, onnx.ErrOutOfMemory) && e.dropOthers(d, name) {
		pipeline, sum, err = e.open(ctx, d, model)
	}
	if err != nil {
		if fatal(ctx, err) {
			d.broken.add(name, files, err)
		}
		return nil, loadError(err)
	}
	d.broken.forget(name)
	f.weights = max(f.weights, min(grown(), mostGrowth*files.weights))
	l := &loaded{name: name, model: model, pipeline: pipeline, digest: sum, footprint: f, weights: f.weights}
	if room := d.memory.room(name); room >= 0 && f.weights > room {
		// Known only now: half precision that is computed in full takes twice
		// what its files do.
		return nil, errors.Join(errTooLarge("the model", f.weights, room), pipeline.Close())
	}
	if err := e.makeRoom(d, name, f.weights); err != nil {
		return nil, errors.Join(err, pipeline.Close())
	}
	d.memory.add(l)
	e.options.Log.Info("model loaded", "model", name, "family", model.Manifest.Family, "device", d.info.Device, "bytes", f.weights,
		"dur_ms", time.Since(start).Milliseconds())
	return l, nil
}

// mostGrowth bounds what is taken for a model's weights, in sizes of its files:
// half precision that is computed in full, and once more reordered for the
// processor. What the process grows by beyond is its libraries'.
const mostGrowth = 4

// growth gives a function that tells by how much the process has grown since.
func (d *device) growth() func() int64 {
	if d.measure == nil {
		return func() int64 { return 0 }
	}
	tidy()
	before := d.measure()
	return func() int64 {
		tidy()
		return d.measure() - before
	}
}

// tidy gives free memory back to the system, Go's and the C library's: it is no
// model's.
func tidy() {
	debug.FreeOSMemory()
	onnx.Trim()
}

// open loads the model's files and checks them. Hashing a large model takes as
// long as loading it: both at once, and nothing is run before both are done.
func (e *Engine) open(ctx context.Context, d *device, model *models.Model) (pipeline, string, error) {
	if err := model.Check(); err != nil {
		return nil, "", err
	}
	type verified struct {
		digest string
		err    error
	}
	digests := make(chan verified, 1)
	go func() {
		sum, err := model.Verify(ctx)
		digests <- verified{sum, err}
	}()
	p, err := e.opener(model, d.sessions)
	sum := <-digests
	if err == nil && sum.err != nil {
		err = errors.Join(sum.err, p.Close())
	}
	return p, sum.digest, err
}

// makeRoom drops models until the named one may take so many bytes. The error
// says that it never can.
func (e *Engine) makeRoom(d *device, name string, bytes int64) error {
	if room := d.memory.room(name); room >= 0 && bytes > room {
		return errTooLarge("the model", bytes, room)
	}
	for _, l := range d.memory.victims(name, bytes) {
		e.drop(d, l, "to make room")
	}
	return nil
}

// drop frees a model.
func (e *Engine) drop(d *device, l *loaded, reason string) {
	log := e.options.Log.With("model", l.name, "device", d.info.Device, "bytes", l.bytes(), "reason", reason)
	err := d.memory.drop(l)
	tidy()
	if err != nil {
		log.Error("model unloaded", "error", err)
		return
	}
	log.Info("model unloaded")
}

// dropOthers frees every model but the named one that may go, and reports
// whether there was any.
func (e *Engine) dropOthers(d *device, name string) bool {
	others := d.memory.others(name)
	for _, l := range others {
		e.drop(d, l, "out of memory")
	}
	return len(others) > 0
}

// fatal reports whether the error is the model's own.
func fatal(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, onnx.ErrOutOfMemory) && !errors.Is(err, onnx.ErrDeviceLost)
}

// files sums a model's files up.
type files struct {
	// weights are the bytes of the files that are loaded.
	weights int64
	// changed is when the last one was, and all how many bytes there are.
	changed time.Time
	all     int64
}

// components are the folders whose files stay in memory.
var components = map[string]bool{"text_encoder": true, "text_encoder_2": true, "unet": true, "vae_decoder": true, "vae_decoder_fp32": true, "vae_encoder": true}

func survey(fsys fs.FS) (files, error) {
	var f files
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := fs.Stat(fsys, name) // not the entry's: files may be links
		if err != nil {
			return err
		}
		f.all += info.Size()
		if info.ModTime().After(f.changed) {
			f.changed = info.ModTime()
		}
		if components[path.Dir(name)] && path.Ext(name) != ".json" {
			f.weights += info.Size()
		}
		return nil
	})
	if err != nil {
		return files{}, fmt.Errorf("survey model: %w", err)
	}
	return f, nil
}
