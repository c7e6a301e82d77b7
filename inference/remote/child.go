package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/imgus/worker/inference"
)

// Child is the child's side: what the program does that the parent starts.
type Child struct {
	// Open makes the engine, of the configuration that the parent gave in its
	// Options. An engine that is an io.Closer is closed in the end.
	Open func(config json.RawMessage) (inference.Engine, error)
	// Broken, if set, reports whether an error means that the engine must be
	// started anew: a CUDA context, for one, never recovers from some.
	Broken func(error) bool
	Log    *slog.Logger
}

// closing bounds how long an engine may take to close; the process ends in any
// case.
const closing = 5 * time.Second

// Run serves the parent until that goes away. stdin holds the configuration.
func (c *Child) Run(ctx context.Context, stdin io.Reader) error {
	control, err := inheritedControl()
	if err != nil {
		return err
	}
	defer control.Close()
	ignoreSignals()
	if err := Harden(); err != nil {
		return err
	}
	var config json.RawMessage
	if err := json.NewDecoder(stdin).Decode(&config); err != nil {
		return fmt.Errorf("read engine's configuration: %w", err)
	}
	engine, err := c.Open(config)
	if err != nil {
		return err
	}
	ignoreSignals() // CUDA may have set handlers of its own
	// Only now: opening a device may have the driver load its kernel module by
	// running a program. No byte of a stranger has been read yet.
	s := &server{engine: engine, broken: c.Broken, confinement: confined(c.Log)}
	err = s.serve(ctx, control)
	return errors.Join(err, closeEngine(engine))
}

// Confine keeps what is in this process's memory in it and takes the network
// away from it for good, as from an engine's, for programs that Once runs.
func Confine(log *slog.Logger) error {
	if err := Harden(); err != nil {
		return err
	}
	confined(log)
	return nil
}

// confined confines this process, and says so where it cannot.
func confined(log *slog.Logger) confinement {
	by, err := confine()
	if err != nil {
		log.Warn("the engine process is not kept from the network", "error", err)
		return confinement{Unconfined: err.Error()}
	}
	return confinement{Confined: by}
}

// inheritedControl is the control that the parent left us.
func inheritedControl() (*listener, error) {
	var about syscall.Stat_t
	if err := syscall.Fstat(controlFD, &about); err != nil || about.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, errors.New("an engine process is started by the worker, not by hand")
	}
	syscall.CloseOnExec(controlFD)
	conn, err := connection(os.NewFile(controlFD, "control"))
	if err != nil {
		return nil, err
	}
	return &listener{conn: conn}, nil
}

// ignoreSignals leaves it to the parent when the child ends: a service manager
// signals both, and the parent lets jobs in hand finish.
func ignoreSignals() { signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP) }

// serve answers until the listener has no parent any more. Then all work is
// cancelled.
func (s *server) serve(ctx context.Context, l *listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { _ = web.Close() })()
	err := web.Serve(l)
	over := ctx.Err() != nil
	cancel()
	_ = web.Close()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || over {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

func closeEngine(engine inference.Engine) error {
	closer, ok := engine.(io.Closer)
	if !ok {
		return nil
	}
	ended := make(chan error, 1)
	go func() { ended <- closer.Close() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(closing):
		return errors.New("the engine does not stop; it ends with its process")
	}
}
