package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
)

// The test binary is also the engine process that the worker starts, and the
// daemon of tests that kill it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		breakEngine()
		main()
	}
	if os.Getenv("IMGUS_TEST_COMMAND") != "" { // see asProcess
		main()
	}
	goleak.VerifyTestMain(m)
}

const (
	testModels = "../../testdata/models"
	golden     = "../../testdata/golden"
)

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// program is the worker with an environment of its own.
type program struct {
	t       *testing.T
	environ []string
}

func newProgram(t *testing.T, environ ...string) *program {
	t.Helper()
	return &program{t: t, environ: append([]string{"IMGUS_ENGINE_LIBRARY=" + testservices.ONNXRuntime(t), "IMGUS_HTTP_ADDRESS="}, environ...)}
}

// run runs a command to its end.
func (p *program) run(stdin string, args ...string) (status int, stdout, stderr string) {
	p.t.Helper()
	var out, errs buffer
	a := &app{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, environ: p.environ}
	status = a.run(p.t.Context(), args)
	return status, out.String(), errs.String()
}

// must runs a command that must end with the status.
func (p *program) must(want int, args ...string) (stdout, stderr string) {
	p.t.Helper()
	status, stdout, stderr := p.run("", args...)
	if status != want {
		p.t.Fatalf("worker %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), status, want, stdout, stderr)
	}
	return stdout, stderr
}

// daemon starts worker run; stop ends it and gives its exit status and log.
func (p *program) daemon() (stop func() (int, string)) {
	p.t.Helper()
	_, stop = p.watchedDaemon()
	return stop
}

// watchedDaemon is daemon with its log as it grows.
func (p *program) watchedDaemon() (log *buffer, stop func() (int, string)) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var out buffer
	log = &buffer{}
	a := &app{stdin: strings.NewReader(""), stdout: &out, stderr: log, environ: p.environ}
	ended := make(chan int, 1)
	go func() { ended <- a.run(ctx, []string{"run"}) }()
	var once sync.Once
	status := 0
	stop = func() (int, string) {
		once.Do(func() {
			cancel()
			select {
			case status = <-ended:
			case <-time.After(time.Minute):
				p.t.Error("the daemon does not stop")
			}
		})
		return status, log.String()
	}
	p.t.Cleanup(func() { stop() })
	return log, stop
}

func lines[T any](t *testing.T, text string) []T {
	t.Helper()
	var out []T
	dec := json.NewDecoder(strings.NewReader(text))
	for dec.More() {
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		out = append(out, v)
	}
	return out
}

func writeFile(t *testing.T, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func readFile(t *testing.T, parts ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func oneRecord(t *testing.T, stdout string) *job.Record {
	t.Helper()
	records := lines[*job.Record](t, stdout)
	if len(records) != 1 {
		t.Fatalf("%d records in %s", len(records), stdout)
	}
	return records[0]
}
