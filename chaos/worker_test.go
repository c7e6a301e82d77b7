package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// worker is a running `worker run`.
type worker struct {
	t     *testing.T
	name  string
	log   string // file
	pid   int
	ended chan struct{}
	err   error // how it ended
}

// startWorker starts the program. It is killed with the test.
func startWorker(t *testing.T, name, dir string, environ []string) *worker {
	t.Helper()
	program, _ := programs(t)
	w := &worker{t: t, name: name, log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(w.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "run")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environ, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(w.ended)
		defer log.Close()
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			w.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	w.pid = cmd.Process.Pid
	t.Cleanup(func() {
		w.signal(syscall.SIGKILL)
		<-w.ended
	})
	return w
}

func (w *worker) signal(s syscall.Signal) {
	select {
	case <-w.ended: // the number may be another's
	default:
		_ = syscall.Kill(w.pid, s) // it ended this moment
	}
}

// kill is kill -9.
func (w *worker) kill() {
	w.signal(syscall.SIGKILL)
	<-w.ended
}

// stop asks it to end and reports how it did.
func (w *worker) stop(patience time.Duration) error {
	w.signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.signal(syscall.SIGQUIT) // shows its goroutines
		<-w.ended
		return fmt.Errorf("%s did not stop within %s", w.name, patience)
	}
	if w.err != nil {
		return fmt.Errorf("%s: %w", w.name, w.err)
	}
	return nil
}

func (w *worker) alive() bool {
	select {
	case <-w.ended:
		return false
	default:
		return true
	}
}

// children are the processes that the worker has started.
func (w *worker) children() []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", w.pid)) // the pattern is good
	var pids []int
	for _, file := range files {
		text, _ := os.ReadFile(file) // the thread ended
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// tail is the end of its log.
func (w *worker) tail() string {
	text, err := os.ReadFile(w.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return fmt.Sprintf("--- %s\n%s\n", w.name, bytes.Join(lines[max(0, len(lines)-60):], []byte("\n")))
}

// survivors are processes of the program that still run.
func survivors(program string) []string {
	files, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is good
	files = slices.DeleteFunc(files, func(file string) bool {
		target, err := os.Readlink(file)
		return err != nil || target != program
	})
	return files
}

// await asks until it is true, or the patience is over.
func await(patience time.Duration, reached func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	for {
		ok, err := reached()
		if ok && err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not within %s", patience), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
