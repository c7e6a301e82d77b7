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
	// dialBurst connections may be attempted before one succeeds or fails;
	// after that one every dialEvery. Without a pace a refusing Redis, for
	// example after a change of its password, is asked thousands of times a
	// second.
	dialBurst = 4
	dialEvery = 700 * time.Millisecond
)

var errPaced = errors.New("redis was away a moment ago and is not asked again yet")

// dialer opens connections, paced while they do not succeed. A connection has
// succeeded when Redis has accepted the credentials.
type dialer struct {
	tls *tls.Config // nil: plain text

	mu       sync.Mutex
	spent    int           // attempts since the last success
	next     time.Time     // when the next attempt is due, once spent reaches dialBurst
	away     bool          // an attempt failed, or took too long, and none has succeeded since
	recovery chan struct{} // closed at a success, to let those who wait go on
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	plain := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	connect := plain.DialContext
	if d.tls != nil {
		secure := &tls.Dialer{NetDialer: plain, Config: d.tls} // takes the server's name from addr
		connect = secure.DialContext
	}
	conn, err := connect(ctx, network, addr)
	if err != nil {
		d.failed()
	}
	return conn, err
}

func (d *dialer) failed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.away, d.spent = true, dialBurst
}

// wait returns when an attempt may be made. While Redis is away and that is not
// soon, it refuses at once, so that nobody hangs on it.
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
	turn := at.Sub(now) <= dialEvery
	if turn {
		d.next = at.Add(dialEvery)
	} else if d.away {
		d.mu.Unlock()
		return errPaced
	}
	if d.recovery == nil {
		d.recovery = make(chan struct{})
	}
	recovery := d.recovery
	d.mu.Unlock()

	timer := time.NewTimer(min(at.Sub(now), dialEvery))
	defer timer.Stop()
	select {
	case <-timer.C:
		d.failed() // or slow
		if !turn {
			return errPaced
		}
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
	d.spent, d.away = 0, false
	if d.recovery != nil {
		close(d.recovery)
		d.recovery = nil
	}
	return nil
}
