package testservices

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// startTime bounds how long a server may take until it answers, stopTime until
// it ends by itself.
const (
	startTime = 30 * time.Second
	stopTime  = 10 * time.Second
)

// process is a server that runs as a child of the test and can be stopped and
// started again. Its methods belong to the test's goroutine.
type process struct {
	t     testing.TB
	path  string
	dir   string       // its working folder, with its log
	args  []string     // set before start
	ready func() error // asks whether the server answers

	running *os.Process
	ended   chan struct{} // closed when running has ended
}

func newProcess(t testing.TB, path string) *process {
	p := &process{t: t, path: path, dir: t.TempDir()}
	t.Cleanup(p.Kill)
	return p
}

// Start starts the server that was stopped or killed, on the address that it
// had, and waits until it answers.
func (p *process) Start() {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

// Stop asks the server to end and waits until it has.
func (p *process) Stop() { p.end(syscall.SIGTERM) }

// Kill ends the server at once, as kill -9 does.
func (p *process) Kill() { p.end(syscall.SIGKILL) }

// Pause makes the server hang: connections stay open and nothing is answered.
func (p *process) Pause() { p.signal(syscall.SIGSTOP) }

// Resume ends Pause.
func (p *process) Resume() { p.signal(syscall.SIGCONT) }

func (p *process) logFile() string {
	return filepath.Join(p.dir, filepath.Base(p.path)+".log")
}

func (p *process) start() error {
	if p.running != nil {
		return errors.New("the server runs already")
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	cmd.SysProcAttr = dieWithParent()

	// The kernel ties the child's life to the thread that started it, so the
	// goroutine keeps that thread until the child has ended.
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	p.running, p.ended = cmd.Process, ended

	deadline := time.Now().Add(startTime)
	for {
		err := p.ready()
		select {
		case <-ended:
			p.running = nil
			return fmt.Errorf("%s ended at start:\n%s", p.path, p.logTail())
		default:
		}
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			p.Kill()
			return fmt.Errorf("%s does not answer: %w\n%s", p.path, err, p.logTail())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *process) end(signal syscall.Signal) {
	if p.running == nil {
		return
	}
	p.signal(signal)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
	p.running = nil
}

func (p *process) signal(signal syscall.Signal) {
	if p.running != nil {
		_ = p.running.Signal(signal) // it has ended: end waits for that
	}
}

func (p *process) logTail() []byte {
	log, err := os.ReadFile(p.logFile())
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(log[max(0, len(log)-4096):])
}

// startOnFreePort starts the server; configure sets its arguments for a port.
// Another process can take the port in between, so it tries a few.
func (p *process) startOnFreePort(bus bool, configure func(port int)) {
	p.t.Helper()
	var err error
	for range 3 {
		configure(freePort(p.t, bus))
		if err = p.start(); err == nil {
			return
		}
	}
	p.t.Fatal(err)
}
