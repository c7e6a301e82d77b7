// Package faults stands between the worker and its services and makes them
// fail: a link that can be cut, and a store that refuses, delays, and loses its
// answers.
package faults

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Link forwards connections to a server until it is cut.
type Link struct {
	backend, addr string

	mu       sync.Mutex
	listener net.Listener // nil while the link is cut
	open     map[net.Conn]bool
	stalled  chan struct{} // closed when bytes flow
	tasks    sync.WaitGroup
}

// NewLink makes a link to the server, host:port. Close it.
func NewLink(backend string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	l := &Link{backend: backend, addr: listener.Addr().String(), open: map[net.Conn]bool{}, stalled: make(chan struct{})}
	close(l.stalled)
	l.listen(listener)
	return l, nil
}

// Addr is the link's near end, host:port.
func (l *Link) Addr() string { return l.addr }

// Cut breaks every connection and refuses new ones.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
	for conn := range l.open {
		_ = conn.Close()
	}
}

// Stall keeps connections open but lets nothing through.
func (l *Link) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flows() {
		l.stalled = make(chan struct{})
	}
}

// Restore ends Cut and Stall.
func (l *Link) Restore() error {
	l.mu.Lock()
	if !l.flows() {
		close(l.stalled)
	}
	cut := l.listener == nil
	l.mu.Unlock()
	if !cut {
		return nil
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		return fmt.Errorf("restore link: %w", err)
	}
	l.listen(listener)
	return nil
}

// Close ends the link and returns when nothing of it runs any more.
func (l *Link) Close() {
	l.Cut()
	l.mu.Lock()
	if !l.flows() {
		close(l.stalled)
	}
	l.mu.Unlock()
	l.tasks.Wait()
}

// flows needs the mutex.
func (l *Link) flows() bool {
	select {
	case <-l.stalled:
		return true
	default:
		return false
	}
}

func (l *Link) listen(listener net.Listener) {
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	l.tasks.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // cut
			}
			l.tasks.Go(func() { l.join(listener, near) })
		}
	})
}

// join carries bytes both ways until one end is closed.
func (l *Link) join(listener net.Listener, near net.Conn) {
	defer near.Close()
	far, err := net.DialTimeout("tcp", l.backend, 5*time.Second)
	if err != nil {
		return
	}
	defer far.Close()
	l.mu.Lock()
	cut := l.listener != listener
	l.open[near], l.open[far] = true, true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.open, near)
		delete(l.open, far)
		l.mu.Unlock()
	}()
	if cut {
		return // between Accept and here
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], &gated{way[0], l}) // broken is what it is for
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

// gated holds bytes back while the link is stalled.
type gated struct {
	net.Conn
	link *Link
}

func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.link.mu.Lock()
	flow := g.link.stalled
	g.link.mu.Unlock()
	<-flow
	return n, err
}
