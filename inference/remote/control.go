package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// The processes are joined by one pair of sockets, the control, which the child
// inherits. The parent opens a connection by making another pair and passing
// one end of it over the control (SCM_RIGHTS). So there is no socket in any
// folder: nobody else can reach the engine, and nothing is left behind. The
// control is also the lifeline: a child that reads its end has no parent.

// pair makes two sockets joined to each other that no child inherits.
func pair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make sockets: %w", os.NewSyscallError("socketpair", err))
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return os.NewFile(uintptr(fds[0]), "engine"), os.NewFile(uintptr(fds[1]), "engine"), nil
}

// connection turns a socket's file into a connection; the file is closed.
func connection(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	unix, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("open socket: it is no Unix socket")
	}
	return unix, nil
}

// control is the parent's end.
type control struct {
	mu   sync.Mutex
	conn *net.UnixConn
}

// patience bounds how long a connection waits in line of a child that accepts
// none.
const patience = 10 * time.Second

// dial opens a connection to the child. Where it is gone the error is
// errNotBegun.
func (c *control) dial() (*net.UnixConn, error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.conn.SetWriteDeadline(time.Now().Add(patience))
	if err == nil {
		_, _, err = c.conn.WriteMsgUnix([]byte{0}, syscall.UnixRights(int(theirs.Fd())), nil)
	}
	if err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	return connection(ours)
}

// listener is the child's end: it accepts what the parent passes. It ends with
// io.EOF when there is no parent any more.
type listener struct{ conn *net.UnixConn }

func (l *listener) Accept() (net.Conn, error) {
	data, rights := make([]byte, 1), make([]byte, syscall.CmsgSpace(4))
	n, m, _, _, err := l.conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	messages, err := syscall.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("accept: no socket was passed: %w", err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("accept: no socket was passed: %w", err)
	}
	return connection(os.NewFile(uintptr(fds[0]), "parent"))
}

func (l *listener) Close() error   { return l.conn.Close() }
func (l *listener) Addr() net.Addr { return l.conn.LocalAddr() }
