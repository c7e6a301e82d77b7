// Package remote runs engines as processes of their own, one for each device.
// A crash, a hang or a leak ends such a child alone; the parent notices, tells
// the one job that it happened to, and starts another. The child has no
// credentials and no network. Both sides speak HTTP over sockets that only
// they have; inference.Engine is the interface on both.
package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// Options configure a Pool.
type Options struct {
	// Devices each get a child: "cpu" or "cuda:N".
	Devices []string
	// Program and Args start a child, followed by --device and its device;
	// they must lead to Child.Run. The default is this program with the
	// argument "engine".
	Program string
	Args    []string
	// Config is given to every child as JSON. It never holds a secret.
	Config any
	// Environ is what children get a few variables of; nil is this process's.
	Environ []string
	// WarmUp is done by every child before it takes jobs.
	WarmUp []inference.WarmUp

	// Grace is how long a cancelled job may take to stop before its child is
	// ended; 0 is 5 s.
	Grace time.Duration
	// StartTimeout is how long a child may take to be ready; 0 is 2 min.
	StartTimeout time.Duration
	// Deadlines are how long a child may say nothing while it has a job.
	Deadlines Deadlines
	// MemoryLimit is the resident memory, in bytes, above which a child is
	// replaced when it has no job; 0 is none.
	MemoryLimit int64
	// BadAfter is after how many failures in a row a device is bad; 0 is 5.
	BadAfter int

	Log *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Devices) == 0 {
		return o, errors.New("engine: no device")
	}
	if o.Program == "" {
		var err error
		if o.Program, err = self(); err != nil {
			return o, fmt.Errorf("find own program: %w", err)
		}
		if o.Args == nil {
			o.Args = []string{"engine"}
		}
	}
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value  *time.Duration
		normal time.Duration
	}{{&o.Grace, 5 * time.Second}, {&o.StartTimeout, 2 * time.Minute}} {
		if *d.value == 0 {
			*d.value = d.normal
		}
	}
	if o.BadAfter == 0 {
		o.BadAfter = 5
	}
	return o, nil
}

var (
	// ErrClosed: the pool takes no more jobs.
	ErrClosed = errors.New("the engines are closed")
	// ErrNoDevice: all devices are bad.
	ErrNoDevice = errors.New("no device can be used")

	errTooLarge = errors.New("it has grown beyond its memory limit")
)

// Pool is an engine of many children. It is safe for concurrent use.
type Pool struct {
	options Options
	clock   *clock
	stop    context.CancelFunc
	running sync.WaitGroup
	devices []*supervisor

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when what follows changes
	closed  bool
	busy    int // jobs in hand
	warm    []inference.WarmUp
}

var (
	_ inference.Host       = (*Pool)(nil)
	_ inference.Classifier = (*Pool)(nil)
)

// Open starts a child for each device and waits until each is ready or will not
// be soon: its device is bad, or the child says by its exit status that it is
// wrongly configured, 78, or its device away, 69. It is an error if none is ready: an *ExitError for each.
func Open(options Options) (*Pool, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Pool{options: options, clock: newClock(options.Deadlines), changed: make(chan struct{}), warm: options.WarmUp}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	var first sync.WaitGroup
	for _, device := range options.Devices {
		s := &supervisor{pool: p, device: device, log: options.Log.With("device", device)}
		p.devices = append(p.devices, s)
	}
	for _, s := range p.devices {
		first.Add(1)
		p.running.Go(func() { s.run(ctx, first.Done) })
	}
	first.Wait()
	if p.Capacity() == 0 {
		var errs []error
		p.look(func() {
			for _, s := range p.devices {
				errs = append(errs, s.last)
			}
		})
		return nil, errors.Join(append(errs, p.Close())...)
	}
	return p, nil
}

// Close waits for the jobs in hand and ends the children.
func (p *Pool) Close() error {
	p.change(func() { p.closed = true })
	for p.Busy() > 0 {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if p.Busy() > 0 {
			<-changed
		}
	}
	p.stop()
	p.running.Wait()
	return nil
}

func (p *Pool) look(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// change changes the state and wakes whoever waits for that.
func (p *Pool) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Generate implements inference.Engine. It waits for a child that is free.
func (p *Pool) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	child, a, err := p.ask(ctx, r.Job.Model, func(child *process) (*answer, error) { return child.generate(ctx, r) })
	switch {
	case err != nil:
		return nil, err
	case a.result == nil:
		return nil, job.Wrap(job.EngineFailed, errWire, "the engine gave no result")
	default:
		// The child counts the devices that it can see.
		a.result.Engine.Device = child.device
		return a.result, nil
	}
}

// Classify implements inference.Classifier. It waits for a child that is free.
func (p *Pool) Classify(ctx context.Context, picture inference.Picture) (*inference.Classification, error) {
	_, a, err := p.ask(ctx, "", func(child *process) (*answer, error) { return child.classify(ctx, picture) })
	switch {
	case err != nil:
		return nil, err
	case a.Classification == nil:
		return nil, job.Wrap(job.EngineFailed, errWire, "the engine gave no scores")
	default:
		return a.Classification, nil
	}
}

// ask has a child work, best one that has the model, and gives its answer. The
// error is a *job.Error, or the cause of ctx.
func (p *Pool) ask(ctx context.Context, model string, work func(*process) (*answer, error)) (*process, *answer, error) {
	for try := 1; ; try++ {
		child, err := p.take(ctx, func() *process { return p.best(model) })
		if err != nil {
			return nil, nil, err
		}
		a, err := work(child)
		p.settle(child, a, err)
		switch {
		case err == nil && a.Cancelled && ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case err == nil && a.Error != nil:
			return nil, nil, a.Error
		case err == nil:
			return child, a, nil
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case errors.Is(err, errNotBegun) && child.exit.Reason == nil && try < tries:
			// It had died before, which is not the job's fault.
		case isGone(err):
			return nil, nil, child.jobError()
		default:
			return nil, nil, job.AsError(err)
		}
	}
}

// tries bounds how often a job is given to children that are gone.
const tries = 5

var errBroken = errors.New("it must be started anew")

// take waits for a child that pick picks and takes a slot of it. settle must
// follow, when the child has really ended its work.
func (p *Pool) take(ctx context.Context, pick func() *process) (*process, error) {
	for {
		p.mu.Lock()
		child := pick()
		if child != nil && !p.closed && ctx.Err() == nil {
			child.busy++
			p.busy++
			p.mu.Unlock()
			return child, nil
		}
		changed, closed, bad := p.changed, p.closed, p.bad()
		p.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case closed:
			return nil, job.Wrap(job.EngineFailed, ErrClosed, "the worker is stopping")
		case bad:
			away := job.Wrap(job.EngineFailed, ErrNoDevice, "no device of the worker can be used")
			away.Uncounted = true // another worker can do the job, and this one when its devices are back
			return nil, away
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// best is the free child that has the model, else the least busy one.
func (p *Pool) best(model string) (best *process) {
	has := false
	for _, s := range p.devices {
		c := s.live
		if c == nil || !c.free() {
			continue
		}
		loaded := c.has(model)
		if best == nil || loaded && !has || loaded == has && c.busy < best.busy {
			best, has = c, loaded
		}
	}
	return best
}

func (p *Pool) bad() bool {
	for _, s := range p.devices {
		if s.state() != Bad {
			return false
		}
	}
	return true
}

// settle frees a slot, after an exchange that ended so.
func (p *Pool) settle(child *process, a *answer, err error) {
	if a != nil && a.Broken {
		p.change(func() { child.broken = true })
		child.kill(errBroken)
		<-child.ended
	}
	p.change(func() {
		child.busy--
		p.busy--
		if err != nil {
			child.gone = child.gone || isGone(err)
			return
		}
		child.worked = child.worked || a.result != nil || a.Classification != nil
		if a.Models != nil {
			child.models = a.Models
		} else if a.result != nil && !child.has(a.result.Model.Name) {
			child.models = append(child.models, a.result.Model.Name)
		}
		p.weigh(child)
	})
}

// weigh retires a child that has grown too large.
func (p *Pool) weigh(child *process) {
	if limit := p.options.MemoryLimit; limit > 0 {
		// An error means that it is gone, or that nobody can tell.
		if size, err := residentMemory(child.pid); err == nil && size > limit {
			child.retiring = true
		}
	}
	if child.retiring && child.busy == 0 {
		select {
		case child.vacant <- struct{}{}:
		default:
		}
	}
}
