// Package local is the engine in this process: it puts together the catalogue,
// the diffusion pipeline and imaging.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// Options configure an Engine.
type Options struct {
	// Library is the path of the ONNX Runtime library.
	Library string
	// Devices are "cpu" or "cuda:N"; each works on one job at a time.
	Devices []string
	// Threads within an operator on the CPU; 0 lets ONNX Runtime choose.
	Threads int
	// CUDA are options of the CUDA provider.
	CUDA      map[string]string
	Catalogue *models.Catalogue
	// Limits narrow what jobs may ask for.
	Limits job.Limits
	// Worker is this program's version, for the record.
	Worker string
	Log    *slog.Logger
}

// Engine runs models in this process, on each device one job at a time.
type Engine struct {
	options Options
	runtime *onnx.Runtime
	devices []*device
	// free holds the devices without a job.
	free chan *device
}

// device is what runs models. Whoever took it from Engine.free may use it.
type device struct {
	sessions  onnx.Options
	info      job.EngineInfo
	pipelines map[string]*loaded
}

// loaded is a model in the device's memory.
type loaded struct {
	model    *models.Model
	pipeline *diffusion.Pipeline
	digest   string
}

var _ inference.Engine = (*Engine)(nil)

// Open loads ONNX Runtime and starts the devices. Errors are onnx.ErrLibrary and
// onnx.ErrDevice: a device that cannot start is never replaced by another.
func Open(o Options) (_ *Engine, err error) {
	runtime, err := onnx.Open(o.Library)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, runtime.Close())
		}
	}()
	e := &Engine{options: o, runtime: runtime, free: make(chan *device, len(o.Devices))}
	for _, name := range o.Devices {
		id, err := onnx.ParseDevice(name)
		if err != nil {
			return nil, err
		}
		d := &device{
			sessions:  onnx.Options{Device: id, Threads: o.Threads, CUDA: o.CUDA},
			info:      job.EngineInfo{Device: name, Provider: id.Provider(), ONNXRuntime: runtime.Version(), Worker: o.Worker},
			pipelines: map[string]*loaded{},
		}
		if err := onnx.CheckDevice(d.sessions); err != nil {
			return nil, err
		}
		e.devices = append(e.devices, d)
		e.free <- d
	}
	return e, nil
}

// Devices names the devices.
func (e *Engine) Devices() []string { return e.options.Devices }

// Slots is how many jobs the engine works on at once.
func (e *Engine) Slots() int { return len(e.devices) }

// Close frees the models and the library. It waits for the jobs in hand.
func (e *Engine) Close() error {
	var errs []error
	for range e.devices {
		d := <-e.free
		for _, l := range d.pipelines {
			errs = append(errs, l.pipeline.Close())
		}
	}
	return errors.Join(append(errs, e.runtime.Close())...)
}

// Generate implements inference.Engine.
func (e *Engine) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	var d *device
	select {
	case d = <-e.free:
		defer func() { e.free <- d }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	watch := newStopwatch(r.Progress)
	result, err := e.generate(ctx, d, r, watch)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return nil, context.Cause(ctx)
		}
		return nil, classify(err)
	}
	result.Timings = watch.stop()
	return result, nil
}

func (e *Engine) generate(ctx context.Context, d *device, r inference.Request, watch *stopwatch) (*inference.Result, error) {
	watch.enter(job.Progress{Stage: job.StageLoad})
	l, err := e.load(ctx, d, r.Job.Model)
	if err != nil {
		return nil, err
	}
	watch.enter(job.Progress{Stage: job.StageDecode})
	p, err := e.prepare(ctx, r, l)
	if err != nil {
		return nil, err
	}
	result := &inference.Result{
		Model:      job.ModelInfo{Name: l.model.Manifest.Name, Family: string(l.model.Manifest.Family), Digest: l.digest},
		Parameters: p.parameters, Engine: d.info,
	}
	err = l.pipeline.Generate(ctx, p.task, watch.enter, func(i int, pixels []float32) error {
		watch.enter(job.Progress{Stage: job.StageEncode})
		defer watch.enter(job.Progress{Stage: job.StageVAE})
		out := p.parameters.Output
		data, err := imaging.Encode(imaging.FromTensor(pixels, p.task.Width, p.task.Height), string(out.Format), out.Quality)
		if err != nil {
			return fmt.Errorf("encode image: %w", err)
		}
		result.Images = append(result.Images, inference.Image{
			Data: data, Format: out.Format, Width: p.task.Width, Height: p.task.Height, Seed: p.task.Seeds[i],
		})
		return nil
	})
	return result, err
}

// load gives the model, loading it if the device does not have it.
func (e *Engine) load(ctx context.Context, d *device, name string) (*loaded, error) {
	if l, ok := d.pipelines[name]; ok {
		return l, nil
	}
	model, err := e.options.Catalogue.Find(name)
	if errors.Is(err, models.ErrUnknown) {
		return nil, job.Errorf(job.UnknownModel, "model: %s", err)
	}
	if err != nil {
		return nil, loadError(err)
	}
	if err := model.Check(); err != nil {
		return nil, loadError(err)
	}
	start := time.Now()
	// Hashing a large model takes as long as loading it: both at once, and
	// nothing is run before both are done.
	digests := make(chan digest, 1)
	go func() {
		sum, err := model.Verify(ctx)
		digests <- digest{sum, err}
	}()
	pipeline, err := diffusion.Open(e.runtime, diffusion.Files{FS: model.FS, Dir: model.Dir}, d.sessions)
	sum := <-digests
	if err == nil && sum.err != nil {
		err = errors.Join(sum.err, pipeline.Close())
	}
	if err != nil {
		return nil, loadError(err)
	}
	l := &loaded{model: model, pipeline: pipeline, digest: sum.digest}
	d.pipelines[name] = l
	e.options.Log.Info("model loaded", "model", name, "family", model.Manifest.Family, "device", d.info.Device, "dur_ms", time.Since(start).Milliseconds())
	return l, nil
}

type digest struct {
	digest string
	err    error
}

func loadError(err error) error {
	if errors.Is(err, onnx.ErrOutOfMemory) {
		return job.Wrap(job.OutOfMemory, err, "the device has too little memory for the model")
	}
	return job.Wrap(job.EngineFailed, err, "the model could not be loaded; the worker's log says why")
}

// classify gives an error the code and the text that a user sees.
func classify(err error) error {
	var known *job.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, onnx.ErrOutOfMemory):
		return job.Wrap(job.OutOfMemory, err, "the device has too little memory for a job of this size; ask for fewer images or a smaller size")
	case errors.Is(err, diffusion.ErrBadOutput):
		return job.Wrap(job.BadOutput, err, "the model gave no picture for these parameters; try other steps, guidance or another scheduler")
	case errors.Is(err, diffusion.ErrClipSkip):
		return job.Errorf(job.InvalidJob, "%s", diffusion.ErrClipSkip)
	case errors.Is(err, diffusion.ErrPromptTooLong):
		return job.Errorf(job.InvalidJob, "prompt: %s", diffusion.ErrPromptTooLong)
	case errors.Is(err, scheduler.ErrUnsupported), errors.Is(err, scheduler.ErrSteps), errors.Is(err, scheduler.ErrUnknown):
		return job.Errorf(job.InvalidJob, "scheduler, steps: %s", err)
	default:
		return job.Wrap(job.EngineFailed, err, "the engine failed; the worker's log says why")
	}
}
