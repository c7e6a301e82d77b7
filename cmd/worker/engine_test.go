package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/demo"
)

// isolated is the real engine in a process of its own.
func isolated(t testing.TB, change func(*configs.Config)) *remote.Pool {
	t.Helper()
	c := configs.Default()
	c.Engine.Library, c.Engine.Devices, c.Models.Directory = testservices.ONNXRuntime(t), configs.Devices{"cpu"}, testModels
	if change != nil {
		change(&c)
	}
	var log buffer
	a := &app{stderr: io.Discard, environ: os.Environ()}
	pool, err := a.openPool(context.Background(), c, "", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return pool
}

func smallJob(steps int) *job.Job {
	return &job.Job{
		Version: 1, ID: "a", Kind: job.TextToImage, Model: "sd1", Prompt: new("a small red circle on a blue background"),
		Steps: &steps, Width: new(64), Height: new(64), Scheduler: new("euler"),
	}
}

// breakEngine has SIGUSR1 take ONNX Runtime's code out of memory, so that the
// next of its instructions is a crash in native code, on a thread that Go knows
// nothing of.
func breakEngine() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	go func() {
		<-told
		maps, _ := os.ReadFile("/proc/self/maps")
		for line := range strings.Lines(string(maps)) {
			var from, to uintptr
			var rights string
			if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err == nil && rights == "r-xp" && strings.Contains(line, "onnxruntime") {
				_, _, _ = syscall.RawSyscall(syscall.SYS_MUNMAP, from, to-from, 0)
			}
		}
	}()
}

func TestIsolatedEngineIsAHost(t *testing.T) {
	pool := isolated(t, func(c *configs.Config) { c.Engine.MemoryBudget = 1 << 30 })
	if err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Width: 64, Height: 64, Pin: true}); err != nil {
		t.Fatal(err)
	}
	s, err := pool.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Engine.Provider != "CPUExecutionProvider" || s.Engine.Worker != version || s.Slots != 1 || s.MemoryBudget != 1<<30 || s.MemoryUsed == 0 ||
		len(s.Models) != 1 || s.Models[0].Name != "sd1" || !s.Models[0].Pinned {
		t.Errorf("%+v", s)
	}
	_, err = pool.Generate(t.Context(), inference.Request{Job: func() *job.Job { j := smallJob(2); j.Model = "nothing"; return j }()})
	if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != job.UnknownModel || !strings.Contains(e.Message, "sd1") {
		t.Errorf("got %v", err)
	}
}

func TestEngineThatCannotStart(t *testing.T) {
	c := configs.Default()
	c.Engine.Library, c.Engine.Devices = writeFile(t, filepath.Join(t.TempDir(), "lib.so"), []byte("no library")), configs.Devices{"cpu"}
	a := &app{stderr: io.Discard, environ: os.Environ()}
	_, err := a.openPool(t.Context(), c, "", slog.New(slog.DiscardHandler))
	if err == nil || statusOf(err) != exitConfig || !strings.Contains(err.Error(), "ONNX Runtime") {
		t.Errorf("got %v", err)
	}
}

// A GPU that is there and cannot be used is no secret: the log and the doctor say
// what is wrong.
func TestGPUThatIsNotUsed(t *testing.T) {
	gpu := remote.Device{Device: "cuda:0", Provider: "CUDAExecutionProvider", Name: "NVIDIA L4", Error: "the device cannot be used: cuda:0: " + onnx.ErrNoCUDA.Error()}
	cpu := remote.Device{Device: "cpu", Provider: "CPUExecutionProvider"}
	var log buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if got := usable([]remote.Device{cpu}, "lib.so", logger); !slices.Equal(got, []string{"cpu"}) || log.String() != "" {
		t.Errorf("without a GPU: %v, %s", got, log.String())
	}
	if got := usable([]remote.Device{cpu, gpu}, "lib.so", logger); !slices.Equal(got, []string{"cpu"}) || !strings.Contains(log.String(), "working on the processor") || !strings.Contains(log.String(), "library=lib.so") {
		t.Errorf("with a GPU: %v, %s", got, log.String())
	}
	working := remote.Device{Device: "cuda:1", Provider: "CUDAExecutionProvider"}
	log = buffer{}
	if got := usable([]remote.Device{cpu, gpu, working}, "lib.so", logger); !slices.Equal(got, []string{"cuda:1"}) || strings.Contains(log.String(), "processor") {
		t.Errorf("with two: %v, %s", got, log.String())
	}
	var out buffer
	d := &doctor{app: &app{stdout: &out, json: true}}
	d.unusable(gpu, "lib.so")
	if found := lines[finding](t, out.String()); d.status == 0 || len(found) != 1 || !strings.Contains(found[0].Remedy, "lib.so is the library for the processor") {
		t.Errorf("the doctor: %+v", found)
	}
}

// A device that is away may come back: a supervisor shall try again.
func TestStatusOfADevice(t *testing.T) {
	for status, err := range map[int]error{
		exitUnavailable: fmt.Errorf("%w: %w: cuda:0", onnx.ErrDevice, onnx.ErrDeviceAway), exitConfig: fmt.Errorf("%w: no provider", onnx.ErrDevice),
	} {
		if got := statusOf(err); got != status {
			t.Errorf("%v ends with %d", err, got)
		}
	}
}

func TestProbe(t *testing.T) {
	p := newProgram(t)
	stdout, _ := p.must(0, "engine", "--probe", "--library", testservices.ONNXRuntime(t))
	devices := lines[remote.Device](t, stdout)
	if len(devices) == 0 || devices[0] != (remote.Device{Device: "cpu", Provider: "CPUExecutionProvider"}) {
		t.Errorf("got %s", stdout)
	}
	p.must(2, "engine")
	p.must(78, "engine", "--device", "gpu")
	p.must(1, "engine", "--device", "cpu")

	a := &app{stderr: io.Discard, environ: os.Environ()}
	got := a.isolatedDevices(t.Context(), configs.Devices{"auto"}, testservices.ONNXRuntime(t), slog.New(slog.DiscardHandler))
	want := []string{}
	for _, d := range devices[1:] {
		want = append(want, d.Device)
	}
	if len(want) == 0 {
		want = []string{"cpu"}
	}
	if !slices.Equal(got, want) {
		t.Errorf("auto is %v, want %v", got, want)
	}
}

// BenchmarkIsolation is the demo job in this process and in a child, in turn,
// so that what else the machine does hits both.
func BenchmarkIsolation(b *testing.B) {
	c := configs.Default()
	c.Engine.Library, c.Engine.Devices = testservices.ONNXRuntime(b), configs.Devices{"cpu"}
	models, err := catalogue("")
	if err != nil {
		b.Fatal(err)
	}
	here, err := openEngine(c, models, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer here.Close()
	engines := []inference.Engine{here, isolated(b, nil)}
	j := &job.Job{Version: 1, ID: "bench", Kind: job.TextToImage, Model: demo.Name, Prompt: new(demo.Prompt), Seed: new(int64(42))}
	took := make([][]time.Duration, len(engines))
	round := func() {
		for i, e := range engines {
			start := time.Now()
			if _, err := e.Generate(b.Context(), inference.Request{Job: j}); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(start))
		}
	}
	round() // loads the model
	took = make([][]time.Duration, len(engines))
	for b.Loop() {
		round()
	}
	for i, name := range []string{"here", "child"} {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Microseconds())/1000, name+"-ms/job")
		b.ReportMetric(float64(took[i][0].Microseconds())/1000, name+"-least-ms/job")
	}
}

// childrenOf lists a process's children whose first argument is the word.
func childrenOf(t *testing.T, pid int, word string) []int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, file := range files {
		text, _ := os.ReadFile(file) // a thread may have ended
		for field := range strings.FieldsSeq(string(text)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline")
			if args := strings.Split(string(line), "\x00"); len(args) > 1 && args[1] == word {
				child, _ := strconv.Atoi(field)
				children = append(children, child)
			}
		}
	}
	return children
}
