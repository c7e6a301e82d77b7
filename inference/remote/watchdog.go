package remote

import (
	"fmt"
	"sync"
	"time"

	"github.com/imgus/worker/job"
)

// Patience bounds one phase of a job. What a phase took before, times a factor,
// is how long it may take; Least is given in any case, and Most is the end, and
// what a phase is given that was never measured.
type Patience struct{ Least, Most time.Duration }

// Deadlines are how long a child may say nothing, by what it is doing. The
// zero value of each is its default.
type Deadlines struct {
	// Load is for loading a model, from disk to device.
	Load Patience
	// Prepare is for reading the photo and the prompt.
	Prepare Patience
	// Step is for one denoising step.
	Step Patience
	// VAE is for the autoencoder, of all images at once.
	VAE Patience
	// Encode is for encoding one image, and handing it over.
	Encode Patience
	// Factor is by how much a phase may exceed what it took before; 0 is 10.
	Factor int
}

func (d Deadlines) withDefaults() Deadlines {
	either := func(p *Patience, least, most time.Duration) {
		if p.Least == 0 {
			p.Least = least
		}
		if p.Most == 0 {
			p.Most = max(most, p.Least)
		}
	}
	either(&d.Load, 10*time.Minute, 10*time.Minute)
	either(&d.Prepare, time.Minute, 5*time.Minute)
	either(&d.Step, time.Minute, 10*time.Minute)
	either(&d.VAE, time.Minute, 10*time.Minute)
	either(&d.Encode, 30*time.Second, 5*time.Minute)
	if d.Factor == 0 {
		d.Factor = 10
	}
	return d
}

func (d Deadlines) of(stage job.Stage) Patience {
	switch stage {
	case job.StageDenoise:
		return d.Step
	case job.StageVAE:
		return d.VAE
	case job.StageEncode:
		return d.Encode
	case job.StageDecode, job.StageText:
		return d.Prepare
	default:
		return d.Load
	}
}

// phase is what times are remembered by. Sizes that a job leaves to the model
// are 0.
type phase struct {
	model                 string
	width, height, images int
	stage                 job.Stage
}

// clock remembers how long phases took. It is safe for concurrent use.
type clock struct {
	deadlines Deadlines
	mu        sync.Mutex
	longest   map[phase]time.Duration
}

func newClock(d Deadlines) *clock {
	return &clock{deadlines: d.withDefaults(), longest: map[phase]time.Duration{}}
}

// maxPhases bounds the memory of sizes that are never asked for again.
const maxPhases = 4096

// note keeps a maximum that fades, so that one slow moment is forgotten.
func (c *clock) note(p phase, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.longest) >= maxPhases {
		clear(c.longest)
	}
	before := c.longest[p]
	c.longest[p] = max(took, before-before/64)
}

// limit is how long the phase may take.
func (c *clock) limit(p phase) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	patience := c.deadlines.of(p.stage)
	before, measured := c.longest[p]
	if !measured {
		return patience.Most
	}
	return min(max(time.Duration(c.deadlines.Factor)*before, patience.Least), patience.Most)
}

// hang is why the watchdog ends a child.
type hang struct {
	stage job.Stage
	after time.Duration
}

func (h *hang) Error() string {
	return fmt.Sprintf("no sign of progress in stage %s for %s", h.stage, h.after.Round(time.Millisecond))
}

// watchdog watches one job. Its methods belong to one goroutine.
type watchdog struct {
	clock *clock
	phase phase
	step  int
	since time.Time
	bite  func(error)
	timer *time.Timer
}

// watch starts a watchdog that bites once, by calling bite.
func (c *clock) watch(j *job.Job, bite func(error)) *watchdog {
	p := phase{model: j.Model, images: 1, stage: job.StageLoad}
	for field, value := range map[*int]*int{&p.width: j.Width, &p.height: j.Height, &p.images: j.Images} {
		if value != nil {
			*field = *value
		}
	}
	w := &watchdog{clock: c, phase: p, since: time.Now(), bite: bite}
	w.rearm()
	return w
}

// enter hears what the job does now.
func (w *watchdog) enter(p job.Progress) {
	now := time.Now()
	took := now.Sub(w.since)
	switch {
	case p.Stage != w.phase.stage:
		if w.phase.stage != job.StageDenoise {
			w.clock.note(w.phase, took)
		}
		w.phase.stage = p.Stage
	case p.Stage == job.StageDenoise && p.Step > w.step:
		// Steps that went by untold share the time.
		w.clock.note(w.phase, took/time.Duration(p.Step-w.step))
	}
	w.step, w.since = p.Step, now
	w.rearm()
}

func (w *watchdog) rearm() {
	w.stop()
	reason := &hang{stage: w.phase.stage, after: w.clock.limit(w.phase)}
	w.timer = time.AfterFunc(reason.after, func() { w.bite(reason) })
}

func (w *watchdog) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}
