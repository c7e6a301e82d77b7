package local_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// What ONNX Runtime does when the system really refuses memory: a job that is
// too large fails, the next one is done, again and again. The limit is for good,
// so a process of its own has it.
func TestSystemRefusesMemory(t *testing.T) {
	const child = "IMGUS_TEST_REFUSE_MEMORY"
	if os.Getenv(child) == "" {
		c := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
		c.Env = append(os.Environ(), child+"=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	run := func(side int) error {
		j := small("a")
		j.Width, j.Height = &side, &side
		_, err := e.Generate(t.Context(), inference.Request{Job: j})
		return err
	}
	if err := run(64); err != nil {
		t.Fatal(err)
	}
	const room = 2 << 30 // the attention of 1024 x 1024 pixels takes 4 GiB for each sample
	limit := unix.Rlimit{Cur: virtualMemory(t) + room, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_AS, &limit); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := run(1024); job.AsError(err).Code != job.OutOfMemory || !errors.Is(err, onnx.ErrOutOfMemory) {
			t.Fatalf("too large a job: %v", err)
		}
		if err := run(64); err != nil {
			t.Fatalf("the next job: %v", err)
		}
	}
}

func virtualMemory(t *testing.T) uint64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(data))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}
