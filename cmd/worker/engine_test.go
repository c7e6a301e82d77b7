package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
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
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/demo"
	"github.com/imgus/worker/storage"
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

func TestIsolatedEngineCrashes(t *testing.T) {
	pool := isolated(t, nil)
	generate := func(j *job.Job) error {
		_, err := pool.Generate(t.Context(), inference.Request{Job: j})
		return err
	}
	if err := generate(smallJob(2)); err != nil {
		t.Fatal(err)
	}
	signals := []syscall.Signal{syscall.SIGUSR1, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT}
	var again []time.Duration
	for i := range 24 {
		s := signals[i%len(signals)]
		pid := pool.Health()[0].PID
		timer := time.AfterFunc(time.Millisecond+rand.N(40*time.Millisecond), func() { _ = syscall.Kill(pid, s) })
		err := generate(smallJob(150)) // it takes longer than the timer
		timer.Stop()
		// A job that was not begun yet is given to the next engine.
		if err != nil && job.AsError(err).Code != job.EngineFailed {
			t.Fatalf("%s: %v", s, err)
		}
		start := time.Now()
		if err := generate(smallJob(2)); err != nil {
			t.Fatalf("the job after %s: %v", s, err)
		}
		again = append(again, time.Since(start))
	}
	slices.Sort(again)
	t.Logf("next job done, with loading the model, after: median %s, longest %s", again[len(again)/2], again[len(again)-1])
	if h := pool.Health()[0]; h.Restarts != 24 || h.State != remote.Ready {
		t.Errorf("%+v", h)
	}
}

// TestIsolatedEngineCancels: an engine that were not idle within the grace of
// 5 s would be ended.
func TestIsolatedEngineCancels(t *testing.T) {
	pool := isolated(t, nil)
	if _, err := pool.Generate(t.Context(), inference.Request{Job: smallJob(2)}); err != nil { // loads the model
		t.Fatal(err)
	}
	var took []time.Duration
	pid := pool.Health()[0].PID
	for range 50 {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := pool.Generate(ctx, inference.Request{Job: smallJob(150)})
			ended <- err
		}()
		time.Sleep(rand.N(80 * time.Millisecond))
		start := time.Now()
		cancel(job.ErrCancelled)
		if err := <-ended; err != nil && !errors.Is(err, job.ErrCancelled) {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
		status, err := pool.Status(t.Context())
		if err != nil || status.Busy != 0 {
			t.Fatalf("after the cancel: %+v, %v", status, err)
		}
		if h := pool.Health()[0]; h.PID != pid {
			t.Fatalf("the engine was ended: %+v", h)
		}
	}
	slices.Sort(took)
	t.Logf("cancel to idle: median %s, 99th percentile %s", took[len(took)/2], took[len(took)-1])
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

// TestJobsSurviveTheirEngines: engines are killed while many jobs run, and one
// job kills its engine each time. That one fails after its attempts; all others
// are done, once.
func TestJobsSurviveTheirEngines(t *testing.T) {
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_WARM_UP=sd1")
	stop := s.daemon()
	const poison = "job-20"
	ids := []string{}
	for i := range 60 {
		j := smallJob(30)
		j.ID = fmt.Sprintf("job-%02d", i)
		if j.ID == poison {
			j.Steps, j.Width, j.Height = new(150), new(512), new(512) // it is caught at it
		}
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	killed := 0
	kill := func() {
		for _, pid := range childrenOf(t, os.Getpid(), "engine") {
			_ = syscall.Kill(pid, []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGUSR1}[killed%4])
			killed++
		}
	}
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for status, err := range s.client.Watch(t.Context(), poison) {
			if err == nil && status.State == job.Running && status.Stage == job.StageDenoise {
				kill()
			}
		}
	}()
	for range 8 { // some while the first engine starts
		time.Sleep(100*time.Millisecond + rand.N(300*time.Millisecond))
		kill()
	}
	s.await(ids)
	<-watching
	for _, id := range ids {
		r := s.record(id)
		switch {
		case id == poison && (r.State != job.Failed || r.Error.Code != job.EngineFailed || r.Attempt.Number < 3):
			t.Errorf("the poison job's record is %+v", r)
		case id != poison && (r.State != job.Done || len(r.Images) != 1):
			t.Errorf("%s: record is %+v, %+v", id, r, r.Error)
		}
	}
	images := 0
	for object, err := range s.bucket.List(t.Context(), storage.ResultPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(object.Key, ".png") {
			images++
		}
	}
	if images != len(ids)-1 {
		t.Errorf("%d images of %d jobs", images, len(ids)-1)
	}
	t.Logf("%d engines killed", killed)
	if status, _ := stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if left := childrenOf(t, os.Getpid(), "engine"); len(left) > 0 {
		t.Errorf("left: %v", left)
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
