package testservices

import (
	"net"
	"sync/atomic"
	"testing"
)

// Knocks stands at an address in place of a service that is away: it counts the
// connections, and cuts each.
type Knocks struct {
	Addr string // host:port

	listener net.Listener
	count    atomic.Int32
	ended    chan struct{}
}

// CountKnocks listens at the address; port 0 is any that is free. It ends with
// the test, or with Close.
func CountKnocks(t testing.TB, address string) *Knocks {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	k := &Knocks{Addr: listener.Addr().String(), listener: listener, ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			k.count.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(k.Close)
	return k
}

// Count is how many connections there were.
func (k *Knocks) Count() int { return int(k.count.Load()) }

// Close frees the address. It may be called again.
func (k *Knocks) Close() {
	_ = k.listener.Close()
	<-k.ended
}
