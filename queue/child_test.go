package queue_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// childAddress is set in a test binary that is to be a worker of its own: some
// tests kill one. childHasty makes its reaper hasty.
const (
	childAddress = "IMGUS_TEST_QUEUE_CHILD"
	childHasty   = "IMGUS_TEST_QUEUE_HASTY"
)

func TestMain(m *testing.M) {
	if addr := os.Getenv(childAddress); addr != "" {
		be(addr)
		return
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", "16") // these tests wait more than they work
	}
	goleak.VerifyTestMain(m)
}

// be is a worker that says which job it runs. A job called poison kills it, one
// called hold never ends, all others are done.
func be(addr string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		die() // the test has ended
	}()
	h := newHandler(func(ctx context.Context, j *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
		_, _ = fmt.Fprintln(os.Stdout, j.ID)
		switch {
		case strings.HasPrefix(j.ID, "poison"):
			die()
		case strings.HasPrefix(j.ID, "hold"):
			select {}
		}
		return job.Outcome{State: job.Done}, nil
	})
	c, err := queue.NewConsumer(options(queue.Connection{URL: addr}, h))
	if err != nil {
		panic(err)
	}
	if os.Getenv(childHasty) != "" {
		c.Hasten()
	}
	if err := c.Run(context.Background()); err != nil {
		panic(err)
	}
}

// die ends this process as kill -9 does.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}

// child is a worker in a process of its own.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, addr string, env ...string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childAddress+"="+addr), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := child{cmd: cmd, out: bufio.NewScanner(out)}
	t.Cleanup(func() { c.kill() })
	return c
}

// runs waits until the worker begins a job, and tells which; "" when it has died.
func (c child) runs() string {
	if !c.out.Scan() {
		return ""
	}
	return c.out.Text()
}

// kill is kill -9. It returns when that was.
func (c child) kill() time.Time {
	at := time.Now()
	_ = c.cmd.Process.Kill() // it may be dead already
	_ = c.cmd.Wait()
	return at
}
