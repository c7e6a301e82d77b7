package queue

import (
	"bufio"
	"context"
	"net"
	"strings"
	"time"
)

// Encrypted reports whether the connection is made with TLS.
func (c Connection) Encrypted() bool {
	return c.TLS.Enabled || strings.HasPrefix(c.URL, "rediss://")
}

// SpeaksPlainText reports whether the server answers without TLS. It helps to
// tell why a connection with TLS fails: such a Redis waits for the rest of what
// it takes for a command, and says nothing.
func (c Connection) SpeaksPlainText(ctx context.Context) bool {
	opts, err := c.options()
	if err != nil || len(opts.Addrs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", opts.Addrs[0])
	if err != nil {
		return false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // else it answers or not
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && (strings.HasPrefix(answer, "+PONG") || strings.HasPrefix(answer, "-NOAUTH"))
}
