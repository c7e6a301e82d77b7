package queue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/imgus/worker/job"
)

// progressEvery bounds how often a job's progress is published.
const progressEvery = 200 * time.Millisecond

// progress publishes what a handler reports, at most once per progressEvery.
// What comes faster is left out, but never the last. It never holds up the
// handler.
type progress struct {
	publish func(job.Progress)

	mu     sync.Mutex
	latest job.Progress
	fresh  bool // latest is not published yet

	wake  chan struct{}
	quit  chan struct{}
	ended chan struct{}
}

// startProgress starts publishing; close ends it.
func startProgress(publish func(job.Progress)) *progress {
	p := &progress{
		publish: publish,
		wake:    make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	go p.run()
	return p
}

// report may be called from any goroutine, and after close, when it has no
// effect.
func (p *progress) report(now job.Progress) {
	p.mu.Lock()
	if now == p.latest {
		p.mu.Unlock()
		return
	}
	p.latest, p.fresh = now, true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close publishes what is left and returns when nothing more will be.
func (p *progress) close() {
	close(p.quit)
	<-p.ended
}

func (p *progress) run() {
	defer close(p.ended)
	defer p.flush()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-p.wake:
		case <-p.quit:
			return
		}
		select {
		case <-timer.C:
		case <-p.quit:
			return
		}
		p.flush()
		timer.Reset(progressEvery)
	}
}

func (p *progress) flush() {
	p.mu.Lock()
	latest, fresh := p.latest, p.fresh
	p.fresh = false
	p.mu.Unlock()
	if fresh {
		p.publish(latest)
	}
}

// latest is the stage that a job has come to.
type latest struct{ stage atomic.Value }

func (l *latest) set(s job.Stage) { l.stage.Store(s) }

func (l *latest) get() job.Stage {
	s, _ := l.stage.Load().(job.Stage)
	return s
}
