package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// process is one life of a child.
type process struct {
	client
	device  string
	pid     int
	started time.Time
	control *control
	// exit is how it ended, set before ended is closed.
	exit *ExitError

	command *exec.Cmd
	mu      sync.Mutex
	reason  error // why we killed it

	// What follows belongs to the pool, under its lock.
	slots, busy int
	models      []string
	worked      bool // it has done a job
	broken      bool // it said that it is no good any more
	retiring    bool // it takes no more jobs, and ends when it has none
	gone        bool // it has ended
	confinement confinement
	// vacant has a token when a retiring child has no job in hand.
	vacant chan struct{}
}

// ExitError tells how a child ended.
type ExitError struct {
	Device string
	// Status is the exit status, -1 after a signal.
	Status int
	// Reason is why the parent ended it; nil if it ended by itself.
	Reason error
	// Text is the end in words, with the last line of its output.
	Text string
}

func (e *ExitError) Error() string { return "engine " + e.Device + ": " + e.Text }

func (e *ExitError) Unwrap() error { return e.Reason }

// controlFD is where the child finds its end of the control.
const controlFD = 3

// launch starts a child. It is not ready yet.
func launch(o Options, device string, clock *clock) (_ *process, err error) {
	ours, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	conn, err := connection(ours)
	if err != nil {
		return nil, err
	}
	stdin, configuration, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start engine: %w", err), conn.Close())
	}
	defer stdin.Close()
	output, stderr, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start engine: %w", err), conn.Close(), configuration.Close())
	}
	defer stderr.Close()

	p := &process{device: device, started: time.Now(), control: &control{conn: conn}, vacant: make(chan struct{}, 1)}
	p.client = client{dial: p.control.dial, kill: p.kill, ended: make(chan struct{}), grace: o.Grace, clock: clock}
	p.command = o.command(device)
	p.command.Stdin, p.command.Stdout, p.command.Stderr = stdin, stderr, stderr
	p.command.ExtraFiles = []*os.File{theirs} // becomes controlFD
	if err := p.run(output, o.Log); err != nil {
		return nil, errors.Join(err, conn.Close(), configuration.Close(), output.Close())
	}
	p.configure(configuration, &o)
	return p, nil
}

// command is the program of a child, with nothing of ours but what it needs.
func (o Options) command(device string) *exec.Cmd {
	args := append([]string{filepath.Base(os.Args[0])}, o.Args...) // the name that lists of processes show
	if device != "" {
		args = append(args, "--device", device)
	}
	return &exec.Cmd{Path: o.Program, Args: args, Env: environment(o.Environ, device), SysProcAttr: attributes()}
}

// run starts the process and the goroutines that wait for it.
func (p *process) run(output *os.File, log *slog.Logger) error {
	inheritNothing()
	started, gone := make(chan error), make(chan error, 1)
	go func() {
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			gone <- p.command.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	p.pid = p.command.Process.Pid
	said := make(chan string, 1)
	go func() {
		defer output.Close()
		said <- forward(output, log.With("device", p.device))
	}()
	go func() {
		err := <-gone
		_ = p.control.conn.Close()
		p.exit = p.describe(err, <-said)
		close(p.ended)
	}()
	return nil
}

// configure gives the child its configuration. It is not an argument: those
// are for everyone to see.
func (p *process) configure(to *os.File, o *Options) {
	defer to.Close()
	err := to.SetWriteDeadline(time.Now().Add(o.StartTimeout))
	if err == nil {
		err = json.NewEncoder(to).Encode(o.Config)
	}
	if err != nil {
		p.kill(fmt.Errorf("configure engine: %w", err))
	}
}

func (p *process) describe(err error, last string) *ExitError {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &ExitError{Device: p.device, Reason: p.reason, Text: "it ended"}
	if p.command.ProcessState != nil {
		e.Status = p.command.ProcessState.ExitCode()
	}
	if err != nil {
		e.Text = err.Error() // "exit status 78", "signal: killed"
	}
	if p.reason != nil {
		e.Text += ": " + p.reason.Error()
	}
	if last != "" {
		e.Text += ": " + last
	}
	return e
}

// kill ends the child at once.
func (p *process) kill(reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason == nil {
		p.reason = reason
	}
	_ = p.command.Process.Kill() // it may have ended
}

// dismiss asks the child to end, and ends it if it does not in time.
func (p *process) dismiss(grace time.Duration) {
	_ = p.control.conn.CloseWrite() // it may have ended
	select {
	case <-p.ended:
	case <-time.After(grace):
		p.kill(errDismissed)
		<-p.ended
	}
}

var errDismissed = errors.New("it was told to end, and did not")

// ready waits until the child serves, for at most the limit.
func (p *process) ready(ctx context.Context, limit time.Duration) (hostStatus, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not ready within %s", limit))
	defer cancel()
	s, err := p.status(ctx)
	if err != nil {
		if ctx.Err() != nil {
			p.kill(err)
		}
		p.bury(err)
		return s, p.exit
	}
	return s, nil
}

// over reports whether the child has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(time.Second): // its connection ends before it does
		return false
	}
}

// kept are the variables that a child gets: those that say where libraries and
// caches are, and those that tune CUDA and Go. No program of ours puts a secret there.
func kept(name string) bool {
	switch name {
	case "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME", "TMPDIR", "TZ", "GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR":
		return true
	}
	return strings.HasPrefix(name, "CUDA_") || strings.HasPrefix(name, "CUDNN_") || strings.HasPrefix(name, "NVIDIA_")
}

// environment is what the child of a device gets of ours. It sees that device
// alone, as its first.
func environment(ours []string, device string) []string {
	values := map[string]string{}
	for _, entry := range ours {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	env := []string{}
	for name, value := range values {
		if kept(name) && name != visibleDevices {
			env = append(env, name+"="+value)
		}
	}
	number, gpu := strings.CutPrefix(device, "cuda:")
	if home := values["HOME"]; home != "" {
		// The digests of models, and what CUDA compiled: without them each
		// start is slow. The rest of the home is none of the child's business.
		if _, set := values["XDG_CACHE_HOME"]; !set {
			env = append(env, "XDG_CACHE_HOME="+filepath.Join(home, ".cache"))
		}
		if _, set := values["CUDA_CACHE_PATH"]; gpu && !set {
			env = append(env, "CUDA_CACHE_PATH="+filepath.Join(home, ".nv", "ComputeCache"))
		}
	}
	visible, set := values[visibleDevices]
	switch {
	case gpu && set:
		visible = nth(visible, number)
	case gpu:
		visible, set = number, true
	case device != "":
		visible, set = "", true // the processor's child sees no GPU
	}
	if set {
		env = append(env, visibleDevices+"="+visible)
	}
	return env
}

// nth is the device that CUDA counts as the nth of a list; none is "".
func nth(list, number string) string {
	devices := strings.Split(list, ",")
	if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < len(devices) {
		return strings.TrimSpace(devices[n])
	}
	return ""
}

const visibleDevices = "CUDA_VISIBLE_DEVICES"

// free reports whether the child takes another job.
func (p *process) free() bool { return !p.gone && !p.broken && !p.retiring && p.busy < p.slots }

// has reports whether the model is in the child's memory.
func (p *process) has(model string) bool { return slices.Contains(p.models, model) }
