package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/imgus/worker/job"
)

// State is how a device stands.
type State string

// The states of a device.
const (
	// Starting: its child is not ready yet, or waits to be started again.
	Starting State = "starting"
	// Ready: its child serves.
	Ready State = "ready"
	// Bad: its child failed several times in a row. It is still tried.
	Bad State = "bad"
)

const (
	// quiet is how long a child must live for its failures to be forgotten.
	quiet = time.Minute
	// The wait before a child that fails is started again doubles from the
	// first to the last.
	firstWait, lastWait = 250 * time.Millisecond, 30 * time.Second
	// A child is asked for a sign of life that often, and given so long.
	pulse, pulsePatience = 10 * time.Second, 30 * time.Second
)

// supervisor keeps the child of one device alive.
type supervisor struct {
	pool   *Pool
	device string
	log    *slog.Logger

	// These belong to the pool, under its lock.
	live     *process // the child that serves; nil when none does
	failures int      // in a row
	starts   int
	last     error // how the last child ended
	ends     map[End]int
}

// End is why a child ended.
type End string

// The ends of children.
const (
	Crashed  End = "crashed"      // by itself, or killed by somebody
	Hung     End = "hung"         // it said nothing for too long
	Useless  End = "broken"       // its device was lost, or ONNX Runtime with it
	Recycled End = "recycled"     // it had too much memory
	Unborn   End = "start_failed" // it never was ready
)

// Ends lists every end.
func Ends() []End { return []End{Crashed, Hung, Useless, Recycled, Unborn} }

func endOf(p *process, err error) End {
	_, hung := errors.AsType[*hang](err)
	switch {
	case p == nil || p.slots == 0:
		return Unborn
	case p.retiring:
		return Recycled
	case hung || errors.Is(err, errNoPulse):
		return Hung
	case p.broken || errors.Is(err, errBroken):
		return Useless
	default:
		return Crashed
	}
}

func (s *supervisor) state() State {
	switch {
	case s.live != nil:
		return Ready
	case s.failures >= s.pool.options.BadAfter:
		return Bad
	default:
		return Starting
	}
}

// run keeps a child alive until ctx ends. first is called when a child is ready,
// or it is known that none will be soon.
func (s *supervisor) run(ctx context.Context, first func()) {
	opened := sync.OnceFunc(first)
	defer opened()
	for ctx.Err() == nil {
		p, err := s.start(ctx)
		if err == nil {
			s.pool.change(func() { s.live = p })
			opened()
			s.watch(ctx, p)
			err = p.exit
		}
		if ctx.Err() != nil {
			return
		}
		wait, hopeless := s.account(p, err)
		if hopeless {
			opened()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// start starts a child and waits until it can take jobs. On an error the
// process, if there is one, is gone.
func (s *supervisor) start(ctx context.Context) (*process, error) {
	s.pool.change(func() { s.starts++ })
	p, err := launch(s.pool.options, s.device, s.pool.clock) //nolint:contextcheck // the child outlives its start
	if err != nil {
		return nil, err
	}
	status, err := p.ready(ctx, s.pool.options.StartTimeout)
	if err != nil {
		return p, err
	}
	p.slots, p.confinement = max(status.Slots, 1), status.confinement
	for _, w := range s.pool.warmUps() {
		a, err := p.warmUp(ctx, w)
		if err == nil && a.Broken {
			err = a.Error
			p.kill(errBroken)
			<-p.ended
		}
		if err != nil {
			return p, fmt.Errorf("warm up: %w", p.exit)
		}
		if a.Error != nil {
			s.log.Warn("model not warmed up", "model", w.Model, "error", a.Error)
		}
		p.models = a.Models
	}
	s.log.Info("engine started", "pid", p.pid, "slots", p.slots, "confined", p.confinement.Confined, "dur_ms", time.Since(p.started).Milliseconds())
	return p, nil
}

// watch returns when the child is gone. It ends one that is hung, too large,
// or not needed any more.
func (s *supervisor) watch(ctx context.Context, p *process) {
	defer s.pool.change(func() { s.live = nil })
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-ctx.Done():
			p.dismiss(s.pool.options.Grace)
			return
		case <-p.vacant:
			p.dismiss(s.pool.options.Grace)
			return
		case <-tick.C:
			alive, cancel := context.WithTimeoutCause(ctx, pulsePatience, errNoPulse)
			if err := p.alive(alive); err != nil && ctx.Err() == nil {
				p.bury(err)
			}
			cancel()
			s.pool.change(func() { s.pool.weigh(p) })
		}
	}
}

var errNoPulse = errors.New("no sign of life")

// The exit statuses (of sysexits.h) of a child that will not start soon: as it is
// told to, however often it is tried, and on a device that is away.
const (
	misconfigured = 78
	deviceAway    = 69
)

// account says what becomes of a device whose child is gone, and returns how
// long to wait before the next. A child that worked and then died is followed
// at once; only one that never was of use has its successor wait.
func (s *supervisor) account(p *process, err error) (wait time.Duration, hopeless bool) {
	var failures int
	var retired bool
	s.pool.change(func() {
		s.last = err
		if s.ends == nil {
			s.ends = map[End]int{}
		}
		s.ends[endOf(p, err)]++
		retired = p != nil && p.retiring
		useful := p != nil && !p.broken && (p.worked || retired || time.Since(p.started) > quiet)
		if useful {
			s.failures = 0
			return
		}
		s.failures++
		failures = s.failures
		wait = min(firstWait<<min(failures-1, 10), lastWait)
	})
	switch {
	case retired:
		s.log.Info("engine recycled", "reason", errTooLarge)
	case failures == s.pool.options.BadAfter:
		s.log.Error("the device is bad; it is still tried", "failures", failures, "wait", wait, "error", err)
	default:
		s.log.Warn("engine ended; it is started again", "failures", failures, "wait", wait, "error", err)
	}
	exit, ok := errors.AsType[*ExitError](err)
	return wait, failures >= s.pool.options.BadAfter || !ok || exit.Status == misconfigured || exit.Status == deviceAway
}

// jobError is what a job is told whose child is gone.
func (p *process) jobError() *job.Error {
	if _, hung := errors.AsType[*hang](p.exit); hung {
		return job.Wrap(job.EngineFailed, p.exit, "the engine made no progress on the job and was stopped")
	}
	return job.Wrap(job.EngineFailed, p.exit, "the engine process ended while it worked on the job")
}
