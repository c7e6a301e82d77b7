package queue

import (
	"context"
	"sync"
	"time"

	"github.com/imgus/worker/job"
)

// slots is the truth about what runs. asynq frees its own token when a task
// times out or is cancelled, although the handler still runs (A3), and gives
// the task to somebody else; a slot is free when the work has really ended.
type slots struct {
	tokens chan struct{}

	mu      sync.Mutex
	held    map[string]context.CancelCauseFunc // by job id
	changed chan struct{}                      // closed, and replaced, when a job leaves
	closing chan struct{}                      // closed when nothing may begin any more
	closed  bool
	// coming is, for each task that asynq was given and that has not come here,
	// until when it is waited for.
	coming []time.Time
}

// arrival bounds the way of a task from Redis to take.
const arrival = time.Second

func newSlots(n int) *slots {
	return &slots{
		tokens:  make(chan struct{}, n),
		held:    map[string]context.CancelCauseFunc{},
		changed: make(chan struct{}),
		closing: make(chan struct{}),
	}
}

// take waits for a slot, and for an earlier delivery of the same job to end,
// until ctx does. It returns the context of the work, which outlives ctx and
// ends by cancel or close only. leave must follow.
func (s *slots) take(ctx context.Context, id string) (context.Context, error) {
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	for arrived := false; ; arrived = true {
		s.mu.Lock()
		if !arrived && len(s.coming) > 0 {
			s.coming = s.coming[1:]
		}
		_, busy := s.held[id]
		if !busy && !s.closed {
			s.held[id] = cancel
			s.mu.Unlock()
			break
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-s.closing:
			cancel(nil)
			return nil, job.ErrShutdown
		case <-ctx.Done():
			cancel(nil)
			return nil, context.Cause(ctx)
		}
	}
	select {
	case s.tokens <- struct{}{}:
		return work, nil
	case <-s.closing:
		s.release(id)
		return nil, job.ErrShutdown
	case <-ctx.Done():
		s.release(id)
		return nil, context.Cause(ctx)
	}
}

// leave frees the slot.
func (s *slots) leave(id string) {
	<-s.tokens
	s.release(id)
}

func (s *slots) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[id](nil)
	delete(s.held, id)
	close(s.changed)
	s.changed = make(chan struct{})
}

// free reports whether one of the first n slots is, with what is on its way
// counted.
func (s *slots) free(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.coming) > 0 && time.Now().After(s.coming[0]) {
		s.coming = s.coming[1:] // asynq did otherwise
	}
	return len(s.held)+len(s.coming) < min(n, cap(s.tokens))
}

// expect hears that a task was taken from Redis, which take will soon ask a
// slot for.
func (s *slots) expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coming = append(s.coming, time.Now().Add(arrival))
}

// jobs lists what is in hand.
func (s *slots) jobs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.held))
	for id := range s.held {
		ids = append(ids, id)
	}
	return ids
}

// has reports whether a job is in hand.
func (s *slots) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, held := s.held[id]
	return held
}

// cancel ends the work on a job, if it is in hand, with a cause.
func (s *slots) cancel(id string, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.held[id]; ok {
		cancel(cause)
	}
}

// close ends all work with job.ErrShutdown; nothing begins afterwards.
func (s *slots) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.closing)
	for _, cancel := range s.held {
		cancel(job.ErrShutdown)
	}
}

// idle waits until nothing is in hand, or ctx ends.
func (s *slots) idle(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, changed := len(s.held), s.changed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
