package local

import (
	"fmt"
	"slices"
	"sync"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// memory is the models on a device, under a budget of bytes. Whoever holds the
// device may change it, so no model goes while it runs; everybody may look.
type memory struct {
	budget int64 // 0 is no bound
	// footprints are by name, pins the names of models that stay.
	footprints map[string]*footprint
	pins       map[string]bool

	mu     sync.Mutex
	models []*loaded // the last used first
	// loads and unloads count.
	loads, unloads int64
}

// loaded is a model in a device's memory.
type loaded struct {
	name      string
	model     *models.Model
	pipeline  pipeline
	digest    string
	footprint *footprint
	// seen are the largest loads since it is here.
	seen struct{ unet, vae int64 }
	// weights and held are what it takes now, held in its arenas; under mu of
	// memory.
	weights int64
	held    working
}

func (l *loaded) bytes() int64 { return l.weights + l.held.bytes() }

func newMemory(budget int64) *memory {
	return &memory{budget: budget, footprints: map[string]*footprint{}, pins: map[string]bool{}}
}

// reserve takes bytes from the budget for good.
func (m *memory) reserve(bytes int64) {
	if m.budget > 0 {
		m.budget = max(m.budget-bytes, 1)
	}
}

// find gives a model that is there, which is then the last used.
func (m *memory) find(name string) *loaded {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.models, func(l *loaded) bool { return l.name == name })
	if i < 0 {
		return nil
	}
	l := m.models[i]
	m.models = slices.Insert(slices.Delete(m.models, i, i+1), 0, l)
	return l
}

func (m *memory) add(l *loaded) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.models = slices.Insert(m.models, 0, l)
	m.loads++
}

// drop frees a model.
func (m *memory) drop(l *loaded) error {
	m.mu.Lock()
	m.models = slices.DeleteFunc(m.models, func(o *loaded) bool { return o == l })
	m.unloads++
	m.mu.Unlock()
	if err := l.pipeline.Close(); err != nil {
		return fmt.Errorf("unload model %s: %w", l.name, err)
	}
	return nil
}

// counts are how often models were loaded and unloaded.
func (m *memory) counts() (loads, unloads int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loads, m.unloads
}

// room is what the named model may take, if every other goes that may go; below
// zero where there is no bound.
func (m *memory) room(name string) int64 {
	if m.budget == 0 {
		return -1
	}
	left := m.budget
	for _, l := range m.list() {
		if l.name != name && m.pins[l.name] {
			left -= l.bytes()
		}
	}
	return max(left, 0)
}

// victims are the models to drop, the least recently used first, so that the
// named one may take so many bytes.
func (m *memory) victims(name string, bytes int64) []*loaded {
	if m.budget == 0 {
		return nil
	}
	var drop []*loaded
	all := m.list()
	for _, l := range all {
		if l.name != name {
			bytes += l.bytes()
		}
	}
	for _, l := range slices.Backward(all) {
		if bytes <= m.budget {
			break
		}
		if l.name != name && !m.pins[l.name] {
			drop = append(drop, l)
			bytes -= l.bytes()
		}
	}
	return drop
}

// others are the models, but the named one, that may go.
func (m *memory) others(name string) []*loaded {
	return slices.DeleteFunc(m.list(), func(l *loaded) bool { return l.name == name || m.pins[l.name] })
}

// list gives the models, the last used first.
func (m *memory) list() []*loaded {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.models)
}

// pin keeps the model of the name in memory.
func (m *memory) pin(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pins[name] = true
}

// hold notes what the model holds now.
func (m *memory) hold(l *loaded, held working) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.weights, l.held = l.footprint.weights, held
}

// learn takes in by how much each stage of a task made the process grow. An
// arena grows for a load that is larger than all before; what else the process
// grows by is not the model's.
func (m *memory) learn(l *loaded, t diffusion.Task, grown map[job.Stage]int64) {
	if grown == nil {
		return
	}
	pixels := int64(t.Width) * int64(t.Height)
	samples := l.pipeline.Samples(t) * len(t.Seeds)
	if t.MaxBatch > 0 {
		samples = min(samples, t.MaxBatch)
	}
	held := l.held
	if load := pixels * int64(samples); load > l.seen.unet {
		// Text encoders take the same for every job: to the UNet's first load
		// it goes.
		held.unet += max(grown[job.StageText]+grown[job.StageDenoise], 0)
		l.seen.unet = load
		l.footprint.unet.add(load, held.unet)
	}
	if load := tilePixels(pixels, t.Tile); load > l.seen.vae {
		held.vae += max(grown[job.StageVAE], 0)
		l.seen.vae = load
		l.footprint.vae.add(load, held.vae)
	}
	m.hold(l, held)
}

// status tells which models are there, and the bytes of all.
func (m *memory) status() (models []inference.LoadedModel, used int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.models {
		bytes := l.bytes()
		models = append(models, inference.LoadedModel{Name: l.name, Bytes: bytes, Pinned: m.pins[l.name]})
		used += bytes
	}
	return models, used
}

// errTooLarge says that something does not fit, with the numbers.
func errTooLarge(what string, bytes, room int64) error {
	return job.Errorf(job.OutOfMemory, "%s needs %s and the device may use %s", what, gibibytes(bytes), gibibytes(room))
}

// gibibytes writes a number of bytes for people.
func gibibytes(bytes int64) string {
	switch b := float64(bytes); {
	case b >= 1<<30:
		return fmt.Sprintf("%.1f GiB", b/(1<<30))
	case b >= 1<<20:
		return fmt.Sprintf("%.1f MiB", b/(1<<20))
	default:
		return fmt.Sprintf("%.1f KiB", b/(1<<10))
	}
}
