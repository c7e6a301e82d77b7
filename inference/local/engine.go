// Package local is the engine in this process: it puts together the catalogue,
// the diffusion pipeline and imaging.
package local

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// Options configure an Engine.
type Options struct {
	// Library is the path of the ONNX Runtime library.
	Library string
	// Devices are "cpu" or "cuda:N"; each works on one job at a time.
	Devices []string
	// Threads within an operator on the CPU; 0 is one for each core.
	Threads int
	// CUDA are options of the CUDA provider.
	CUDA map[string]string
	// MemoryBudget bounds, in bytes, what models and working take of each
	// device; 0 is most of the memory that the device has.
	MemoryBudget int64
	// Tiling lets the VAE work in tiles where it would not fit whole. It changes
	// pixels, so the record says so.
	Tiling    bool
	Catalogue *models.Catalogue
	// Classifier, if not nil, is for Classify. It is loaded onto every device.
	Classifier *models.Classifier
	// Limits narrow what jobs may ask for.
	Limits job.Limits
	// Worker is this program's version, for the record.
	Worker string
	// Mark is the name of the system that the pictures are marked with as made
	// by AI; "" marks none.
	Mark string
	Log  *slog.Logger
}

// Engine runs models in this process, on each device one job at a time.
type Engine struct {
	options Options
	opener  opener
	// closers free what is not a model, in order.
	closers []func() error
	version string // of ONNX Runtime
	devices []*device
	// free holds the devices without a job.
	free chan *device
	// warming is held by who takes all devices.
	warming chan struct{}
	// lost is why no device can be used any more.
	lost atomic.Pointer[error]
}

// device is what runs models. Whoever took it from Engine.free may use it.
type device struct {
	sessions onnx.Options
	info     job.EngineInfo
	memory   *memory
	// why says where the budget comes from.
	why    string
	broken *brokenModels
	// classifier is nil where there is none.
	classifier *classifier
	gauge      gauge
	// measure gives the bytes that the process has of the device; nil where
	// nobody can tell.
	measure func() int64
}

var _ inference.Host = (*Engine)(nil)

// Open loads ONNX Runtime and starts the devices. Errors are onnx.ErrLibrary,
// ErrClassifier and onnx.ErrDevice: a device that cannot start is never replaced by another.
func Open(o Options) (_ *Engine, err error) {
	runtime, err := onnx.Open(o.Library)
	if err != nil {
		return nil, err
	}
	e := &Engine{options: o, opener: openWith(runtime, o.Log), version: runtime.Version(), closers: []func() error{runtime.Close}}
	gauges := newGauges(o.Devices)
	e.closers = append(e.closers, gauges.close)
	if err := e.start(gauges.of, onnx.CheckDevice); err != nil {
		return nil, errors.Join(err, e.closeAll())
	}
	if err := e.startClassifier(runtime); err != nil {
		return nil, errors.Join(err, e.closeAll())
	}
	return e, nil
}

// start makes the devices.
func (e *Engine) start(gauges func(onnx.Device) gauge, check func(onnx.Options) error) error {
	o := e.options
	e.free, e.warming = make(chan *device, len(o.Devices)), make(chan struct{}, 1)
	threads, _ := Threads(o.Threads)
	for _, name := range o.Devices {
		id, err := onnx.ParseDevice(name)
		if err != nil {
			return err
		}
		d := &device{
			sessions: onnx.Options{Device: id, Threads: threads, CUDA: o.CUDA},
			info:     job.EngineInfo{Device: name, Provider: id.Provider(), ONNXRuntime: e.version, Worker: o.Worker},
			broken:   &brokenModels{}, gauge: gauges(id),
		}
		if err := check(d.sessions); err != nil {
			return err
		}
		d.measure = d.gauge.own
		facts := d.gauge.facts()
		var bytes int64
		bytes, d.why = budget(o.MemoryBudget, facts, d.gauge.source)
		d.memory = newMemory(bytes)
		o.Log.Info("device", "device", name, "name", facts.Name, "memory", facts.MemoryTotal, "memory_budget", bytes, "reason", d.why, "threads", threads)
		if bytes > 0 && d.measure == nil {
			o.Log.Warn("of the memory budget only the models' weights are known, not what working takes", "device", name)
		}
		e.devices = append(e.devices, d)
		e.free <- d
	}
	return nil
}

// Devices names the devices.
func (e *Engine) Devices() []string { return e.options.Devices }

// Slots is how many jobs the engine works on at once.
func (e *Engine) Slots() int { return len(e.devices) }

// Capacity is Slots, or 0 when a device is lost.
func (e *Engine) Capacity() int {
	if e.isLost() {
		return 0
	}
	return len(e.devices)
}

// Close frees the models and the library. It waits for the jobs in hand. Of a
// lost device nothing can be freed but with the process.
func (e *Engine) Close() error {
	var errs []error
	for range e.devices {
		d := <-e.free
		for _, l := range d.memory.list() {
			if !e.isLost() {
				errs = append(errs, d.memory.drop(l))
			}
		}
	}
	if e.isLost() {
		return nil
	}
	return errors.Join(append(errs, e.closeAll())...)
}

func (e *Engine) closeAll() error {
	var errs []error
	for _, c := range e.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Status implements inference.Host. Of several devices it names the first. The
// error is ErrUnusable.
func (e *Engine) Status(context.Context) (inference.Status, error) {
	if err := e.unusable(); err != nil {
		return inference.Status{}, err
	}
	s := inference.Status{Engine: e.devices[0].info, Slots: len(e.devices), Busy: len(e.devices) - len(e.free)}
	for _, d := range e.devices {
		models, used := d.memory.status()
		s.Models = append(s.Models, models...)
		s.MemoryUsed += used
		s.MemoryBudget += d.memory.budget
		s.BadModels = append(s.BadModels, d.broken.list()...)
		s.Devices = append(s.Devices, d.facts())
	}
	return s, nil
}

// facts are the device's, with its budget.
func (d *device) facts() inference.Device {
	f := d.gauge.facts()
	f.Device, f.MemoryBudget, f.MemoryBudgetReason = d.info.Device, d.memory.budget, d.why
	f.Loads, f.Unloads = d.memory.counts()
	_, f.ModelMemory = d.memory.status()
	return f
}

// take waits for a device without a job.
func (e *Engine) take(ctx context.Context) (*device, error) {
	select {
	case d := <-e.free:
		if err := e.unusable(); err != nil {
			e.free <- d
			return nil, classify(err)
		}
		return d, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Generate implements inference.Engine.
func (e *Engine) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	d, err := e.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { e.free <- d }()
	watch := newStopwatch(r.Progress)
	result, err := e.generate(ctx, d, r, watch)
	if err != nil {
		return nil, e.judge(ctx, err)
	}
	result.Timings = watch.stop()
	return result, nil
}
