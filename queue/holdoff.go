package queue

import (
	"sync"
	"time"
)

// holdOff keeps the worker from taking jobs for a while after trouble that
// would befall the next one too, such as storage that is away: longer each
// time, up to longestHold.
type holdOff struct {
	mu    sync.Mutex
	until time.Time
	last  time.Duration
}

const longestHold = 15 * time.Second

func (h *holdOff) trouble() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return // several jobs in hand, one trouble
	}
	h.last = min(max(2*h.last, time.Second), longestHold)
	h.until = time.Now().Add(h.last)
}

func (h *holdOff) fine() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until, h.last = time.Time{}, 0
}

func (h *holdOff) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !time.Now().Before(h.until)
}
