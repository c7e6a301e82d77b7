package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// dialBurst connections may be attempted before the first succeeds; after
	// that one every dialEvery. Without a pace a refusing Redis, for example
	// after a change of its password, is asked thousands of times a second.
	dialBurst = 4
	dialEvery = 600 * time.Millisecond
)

var errPaced = errors.New("redis was away a moment ago and is not asked again yet")

// dialer opens connections, paced while they do not succeed. A connection has
// succeeded when Redis has accepted the credentials.
type dialer struct {
	tls *tls.Config // nil: plain text

	mu       sync.Mutex
	spent    int           // attempts since the last success
	next     time.Time     // when the next attempt is due, once spent reaches dialBurst
	recovery chan struct{} // closed at a success, to let those who wait go on
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	plain := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	if d.tls == nil {
		return plain.DialContext(ctx, network, addr)
	}
	secure := &tls.Dialer{NetDialer: plain, Config: d.tls} // takes the server's name from addr
	return secure.DialContext(ctx, network, addr)
}

// wait returns when an attempt may be made. If that is not soon, it refuses at
// once, so that nobody hangs on a Redis that is away.
func (d *dialer) wait(ctx context.Context) error {
	d.mu.Lock()
	now := time.Now()
	if d.spent < dialBurst {
		d.spent++
		d.next = now.Add(dialEvery)
		d.mu.Unlock()
		return nil
	}
	at := d.next
	if at.Before(now) {
		at = now
	}
	if at.Sub(now) > dialEvery {
		d.mu.Unlock()
		return errPaced
	}
	d.next = at.Add(dialEvery)
	if d.recovery == nil {
		d.recovery = make(chan struct{})
	}
	recovery := d.recovery
	d.mu.Unlock()

	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-recovery:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// connected is go-redis's OnConnect: the server has accepted the connection.
func (d *dialer) connected(context.Context, *redis.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spent = 0
	if d.recovery != nil {
		close(d.recovery)
		d.recovery = nil
	}
	return nil
}
