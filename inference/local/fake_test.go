package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// bench is an engine whose models are fakes: the memory that they take is a
// number, and they fail as they are told. Real are their folders alone.
type bench struct {
	*local.Engine

	mu       sync.Mutex
	opened   []string
	closed   []string
	tasks    []diffusion.Task
	resident int64

	// weights are what loading a model grows the process by; work is what a task
	// does, in the stage, and may fail.
	weights map[string]int64
	work    func(model string, t diffusion.Task, stage job.Stage) (grows int64, err error)
	loading func(model string) error
}

const mib = 1 << 20

func newBench(t *testing.T, o local.Options, measured bool) *bench {
	t.Helper()
	return benchOn(t, o, measured, nil)
}

// benchOn is a bench on a GPU, if there is one.
func benchOn(t *testing.T, o local.Options, measured bool, card local.GPU) *bench {
	t.Helper()
	b := &bench{resident: 100 * mib}
	if o.Catalogue == nil {
		o.Catalogue = models.New(testModels)
	}
	if len(o.Devices) == 0 {
		o.Devices = []string{"cpu"}
	}
	o.Log = slog.New(slog.DiscardHandler)
	var measure func() int64
	if measured {
		measure = func() int64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.resident
		}
	}
	var err error
	if b.Engine, err = local.NewEngine(o, b.open, measure, card); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, err := b.Status(context.Background()); err == nil && len(b.opened) != len(b.closed) {
			t.Errorf("opened %v, closed %v", b.opened, b.closed)
		}
	})
	return b
}

func (b *bench) open(m *models.Model) (local.Pipeline, error) {
	name := m.Manifest.Name
	b.mu.Lock()
	b.opened = append(b.opened, name)
	b.resident += b.weights[name]
	b.mu.Unlock()
	if b.loading != nil {
		if err := b.loading(name); err != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.closed = append(b.closed, name)
			return nil, err
		}
	}
	return &fake{bench: b, name: name}, nil
}

func (b *bench) names() (opened, closed []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.opened), slices.Clone(b.closed)
}

func (b *bench) job(t *testing.T, model string, change ...func(*job.Job)) (*inference.Result, error) {
	t.Helper()
	j := small("a")
	j.Model = model
	for _, c := range change {
		c(j)
	}
	return b.Generate(t.Context(), inference.Request{Job: j})
}

func (b *bench) must(t *testing.T, model string, change ...func(*job.Job)) *inference.Result {
	t.Helper()
	r, err := b.job(t, model, change...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) loaded(t *testing.T) []inference.LoadedModel {
	t.Helper()
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Models
}

// fake is a model of no pictures.
type fake struct {
	bench   *bench
	name    string
	running atomic.Bool
	gone    atomic.Bool
	held    map[job.Stage]int64
}

func (f *fake) Multiple() int                 { return 16 }
func (f *fake) DefaultSize() (w, h int)       { return 64, 64 }
func (f *fake) TwoPrompts() bool              { return false }
func (f *fake) TakesSizes() bool              { return false }
func (f *fake) EditsPhotos() bool             { return false }
func (f *fake) Supports(diffusion.Task) error { return nil }
func (f *fake) Samples(diffusion.Task) int    { return 2 }

func (f *fake) Scheduler(name string) (scheduler.Scheduler, error) {
	c, err := scheduler.ParseConfig([]byte(`{"_class_name": "EulerDiscreteScheduler"}`))
	if err != nil {
		return nil, err
	}
	return scheduler.New(name, c)
}

func (f *fake) Generate(ctx context.Context, t diffusion.Task, progress func(job.Progress), each func(int, []float32) error) error {
	if f.gone.Load() || !f.running.CompareAndSwap(false, true) {
		return errors.New("the model is gone, or has a task already")
	}
	defer f.running.Store(false)
	f.bench.mu.Lock()
	f.bench.tasks = append(f.bench.tasks, t)
	f.bench.mu.Unlock()
	for _, stage := range []job.Stage{job.StageText, job.StageDenoise, job.StageVAE} {
		progress(job.Progress{Stage: stage})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.bench.work == nil {
			continue
		}
		grows, err := f.bench.work(f.name, t, stage)
		if err != nil {
			return err
		}
		f.arena(stage, grows)
	}
	pixels := make([]float32, 3*t.Width*t.Height)
	for i := range t.Seeds {
		if err := each(i, pixels); err != nil {
			return err
		}
	}
	return nil
}

// arena grows to the bytes, as ONNX Runtime's do, and never shrinks.
func (f *fake) arena(stage job.Stage, bytes int64) {
	f.bench.mu.Lock()
	defer f.bench.mu.Unlock()
	if f.held == nil {
		f.held = map[job.Stage]int64{}
	}
	if more := bytes - f.held[stage]; more > 0 {
		f.held[stage] += more
		f.bench.resident += more
	}
}

func (f *fake) Close() error {
	f.bench.mu.Lock()
	defer f.bench.mu.Unlock()
	f.bench.closed = append(f.bench.closed, f.name)
	f.bench.resident -= f.bench.weights[f.name]
	for _, bytes := range f.held {
		f.bench.resident -= bytes
	}
	if f.running.Load() || f.gone.Swap(true) {
		return fmt.Errorf("model %s was closed while it ran, or twice", f.name)
	}
	return nil
}
