package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
)

func TestGenerate(t *testing.T) {
	pool := open(t, nil)
	r := ask("echo")
	r.Input, r.Mask, r.Job.Seed = bytes.Repeat([]byte("photo"), 300_000), []byte("mask"), new(int64(5))
	var heard []job.Progress
	r.Progress = func(p job.Progress) { heard = append(heard, p) }
	got, err := pool.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Images[0].Data, append(bytes.Clone(r.Input), r.Mask...)) {
		t.Error("other bytes came back")
	}
	got.Images[0].Data = nil
	want := &inference.Result{
		Images: []inference.Image{{Format: job.PNG, Width: 2048, Height: 2048, Seed: 5}},
		Model:  job.ModelInfo{Name: "m"}, Parameters: job.Parameters{Width: 2048, Height: 2048},
		Timings: job.Timings{job.StageDenoise: 7}, Engine: job.EngineInfo{Device: "cpu", Provider: "stub"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// Progress may be told in fewer words, but the last is always heard.
	if len(heard) == 0 || heard[len(heard)-1].Stage != job.StageEncode {
		t.Errorf("heard %v", heard)
	}
	if string(r.Input[:5]) != "photo" {
		t.Error("the caller's photo was touched")
	}
}

// Prompts are anything; the wire is lines.
func TestPromptsCrossUnchanged(t *testing.T) {
	pool := open(t, nil)
	for _, words := range []string{"echo \n{\"x\":1}\n", "echo \x00 \u2028 👩‍👩‍👧 \"'<&>", "echo " + strings.Repeat("日", 3990)} {
		if _, err := pool.Generate(t.Context(), inference.Request{Job: ask(words).Job, Input: []byte("i")}); err != nil {
			t.Errorf("%.20q: %v", words, err)
		}
	}
}

func TestErrorsCross(t *testing.T) {
	pool := open(t, nil)
	for _, code := range []job.Code{job.InvalidJob, job.OutOfMemory, job.BadOutput, job.EngineFailed} {
		_, err := pool.Generate(t.Context(), ask("error "+string(code)))
		known, ok := errors.AsType[*job.Error](err)
		if !ok || known.Code != code || known.Message != "public message" || known.Err == nil || known.Err.Error() != "private cause" {
			t.Errorf("%s: got %#v", code, err)
		}
	}
	if d := pool.Health()[0]; d.Restarts != 0 {
		t.Errorf("restarted for an error of a job: %+v", d)
	}
}

func TestWaitsForAFreeChild(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Devices = []string{"cpu", "cuda:1"} })
	if pool.Slots() != 2 || pool.Capacity() != 2 || !pool.Ready() {
		t.Fatalf("%d slots, capacity %d", pool.Slots(), pool.Capacity())
	}
	errs := make(chan error)
	for range 6 {
		go func() {
			_, err := pool.Generate(t.Context(), ask("steps 3 20ms"))
			errs <- err
		}()
	}
	eventually(t, "both work", func() bool { return pool.Busy() == 2 })
	for range 6 {
		if n := pool.Busy(); n > 2 {
			t.Errorf("%d jobs on 2 devices", n)
		}
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	// A job that waits can be cancelled.
	ctx, cancel := context.WithCancelCause(t.Context())
	for range 2 {
		go func() {
			_, err := pool.Generate(ctx, ask("steps 1000 20ms"))
			errs <- err
		}()
	}
	eventually(t, "both work", func() bool { return pool.Busy() == 2 })
	go func() {
		_, err := pool.Generate(ctx, ask("echo"))
		errs <- err
	}()
	cancel(job.ErrCancelled)
	for range 3 {
		if err := <-errs; !errors.Is(err, job.ErrCancelled) {
			t.Error(err)
		}
	}
}

func TestPrefersTheChildWithTheModel(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Devices = []string{"cpu", "cuda:0", "cuda:1"} })
	home := map[string]string{}
	for _, model := range []string{"a", "b", "c"} { // one on each: load while all are busy
		if err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "shared"}); err != nil {
			t.Fatal(err)
		}
		r := ask("device")
		r.Job.Model = model
		result, err := pool.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		home[model] = result.Engine.Device
	}
	for range 5 {
		for model, device := range home {
			r := ask("device")
			r.Job.Model = model
			result, err := pool.Generate(t.Context(), r)
			if err != nil || result.Engine.Device != device || string(result.Images[0].Data) != device {
				t.Fatalf("%s was on %s, then on %+v, %v", model, device, result, err)
			}
		}
	}
}

func TestWarmUp(t *testing.T) {
	pool := open(t, func(o *remote.Options) {
		o.Devices, o.WarmUp = []string{"cpu", "cuda:0"}, []inference.WarmUp{{Model: "first", Pin: true}}
	})
	if err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "second", Width: 64, Height: 64}); err != nil {
		t.Fatal(err)
	}
	warm := func() bool {
		for _, d := range pool.Health() {
			if diff := cmp.Diff([]string{"second", "first"}, d.Models); diff != "" {
				return false
			}
		}
		return true
	}
	if !warm() {
		t.Errorf("%+v", pool.Health())
	}
	status, err := pool.Status(t.Context())
	if err != nil || status.Slots != 2 || status.MemoryUsed != 4 || len(status.Models) != 4 || status.Engine.Device != "cpu" {
		t.Errorf("%+v, %v", status, err)
	}
	err = pool.WarmUp(t.Context(), inference.WarmUp{Model: "none"})
	if known, ok := errors.AsType[*job.Error](err); !ok || known.Code != job.UnknownModel {
		t.Errorf("got %v", err)
	}
	// A child that is started again is warm before it takes jobs.
	fails(t, pool, "exit", job.EngineFailed, "")
	fails(t, pool, "exit", job.EngineFailed, "")
	eventually(t, "warm again", warm)
	if err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "crash"}); err == nil {
		t.Error("a crash is no error")
	}
}

// What each child's device tells comes under the name that it has here, and a
// model that is bad on all of them once.
func TestStatus(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Devices = []string{"cuda:3", "cuda:5"} })
	s, err := pool.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	card := inference.Device{Name: "A card", MemoryTotal: 8, MemoryUsed: 3, MemoryBudget: 7, Utilisation: new(50)}
	third, fifth := card, card
	third.Device, fifth.Device = "cuda:3", "cuda:5"
	want := inference.Status{
		Engine: job.EngineInfo{Device: "cuda:3", Provider: "stub"}, Slots: 2,
		BadModels: []inference.BadModel{{Name: "bad", Reason: "truncated"}}, Devices: []inference.Device{third, fifth},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pool.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A child that ends while it is asked is left out.
func TestStatusOfTheOthers(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Devices = []string{"cuda:3", "cuda:5"} })
	for range 5 {
		_ = syscall.Kill(pool.Health()[0].PID, syscall.SIGKILL)
		s, err := pool.Status(t.Context())
		if err != nil || len(s.Devices) == 0 || s.Devices[len(s.Devices)-1].Device != "cuda:5" {
			t.Errorf("got %+v, %v", s, err)
		}
		eventually(t, "ready", func() bool { return pool.Capacity() == 2 })
	}
}

func TestDeviceThatCannotStart(t *testing.T) {
	obstacle := filepath.Join(t.TempDir(), "obstacle")
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	config := stub{While: obstacle, Device: "cuda:0"}
	_, err := remote.Open(options(t, func(o *remote.Options) { o.Devices, o.Config = []string{"cuda:0"}, config }))
	exit, ok := errors.AsType[*remote.ExitError](err)
	if !ok || exit.Device != "cuda:0" || exit.Status != 78 || !strings.Contains(exit.Text, "no such device") {
		t.Fatalf("got %v", err)
	}
	// One that is away is for whoever starts the worker to try again, at once.
	away := config
	away.Away = true
	_, err = remote.Open(options(t, func(o *remote.Options) { o.Devices, o.Config, o.BadAfter = []string{"cuda:0"}, away, 1<<30 }))
	if exit, ok := errors.AsType[*remote.ExitError](err); !ok || exit.Status != 69 || !strings.Contains(exit.Text, "not loaded") {
		t.Fatalf("got %v", err)
	}

	// Beside one that can, it is tried again and then bad; jobs go on.
	pool := open(t, func(o *remote.Options) {
		o.Devices, o.Config, o.BadAfter = []string{"cuda:0", "cpu"}, config, 3
	})
	eventually(t, "bad", func() bool { return pool.Health()[0].State == remote.Bad })
	for range 3 {
		if device := does(t, pool, "device"); device != "cpu" {
			t.Errorf("%s works", device)
		}
	}
	if n := pool.Capacity(); n != 1 {
		t.Errorf("capacity %d", n)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", func() bool { return pool.Health()[0].State == remote.Ready })
	if n := pool.Capacity(); n != 2 {
		t.Errorf("capacity %d", n)
	}
}

func TestNoDeviceIsLeft(t *testing.T) {
	obstacle := filepath.Join(t.TempDir(), "obstacle")
	pool := open(t, func(o *remote.Options) { o.BadAfter, o.Config = 2, stub{While: obstacle, Device: "cpu"} })
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, pool, "exit", job.EngineFailed, "")
	_, err := pool.Generate(t.Context(), ask("echo"))
	if !errors.Is(err, remote.ErrNoDevice) || pool.Ready() || !job.AsError(err).Passing() {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready", pool.Ready)
	does(t, pool, "device")
}

func TestNeverReady(t *testing.T) {
	_, err := remote.Open(options(t, func(o *remote.Options) {
		o.BadAfter, o.StartTimeout, o.Config = 1, 200*time.Millisecond, stub{Never: "cpu"}
	}))
	if err == nil || !strings.Contains(err.Error(), "not ready within 200ms") {
		t.Errorf("got %v", err)
	}
	if _, err := remote.Open(options(t, func(o *remote.Options) { o.BadAfter, o.Program = 1, "/nowhere" })); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	pool := open(t, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := pool.Generate(t.Context(), ask("steps 10 20ms"))
		ended <- err
	}()
	eventually(t, "it works", func() bool { return pool.Busy() == 1 })
	pid := pool.Health()[0].PID
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the job in hand: %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the child is left: %v", err)
	}
	if _, err := pool.Generate(t.Context(), ask("echo")); !errors.Is(err, remote.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// A child that grows is replaced between jobs, and nobody notices.
func TestMemoryLimit(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.MemoryLimit = 150 << 20 })
	first := does(t, pool, "pid")
	does(t, pool, "grow 10")
	if second := does(t, pool, "pid"); second != first {
		t.Fatal("replaced without need")
	}
	for range 5 {
		does(t, pool, "grow 50")
	}
	eventually(t, "replaced", func() bool { return does(t, pool, "pid") != first })
	if d := pool.Health()[0]; d.Failures != 0 {
		t.Errorf("%+v", d)
	}
}

// A CUDA context that is corrupted stays so: the child says it, and another
// takes its place.
func TestBrokenEngine(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.BadAfter = 3 })
	first := does(t, pool, "pid")
	fails(t, pool, "broken", job.Internal, "the context is corrupted")
	if second := does(t, pool, "pid"); second == first {
		t.Error("the broken engine goes on")
	}
	for i := range 2 {
		fails(t, pool, "broken", job.Internal, "")
		eventually(t, "counted", func() bool { return pool.Health()[0].Failures > i })
	}
}

func TestLogsAreForwarded(t *testing.T) {
	log := &buffer{}
	pool := open(t, func(o *remote.Options) { o.Log = jsonLogger(log) })
	does(t, pool, "log")
	eventually(t, "the last line", func() bool { return strings.Contains(log.String(), "ours") })
	var lines []map[string]any
	for text := range strings.Lines(log.String()) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		delete(l, "time")
		lines = append(lines, l)
	}
	for _, want := range []map[string]any{
		{"level": "INFO", "msg": "as told", "device": "cpu", "number": 7.0, "g": map[string]any{"text": "x"}},
		{"level": "WARN", "msg": "output of the engine", "device": "cpu", "text": "plain " + strings.Repeat("x", 1018) + "…"},
		{"level": "WARN", "msg": "output of the engine", "device": "cpu", "text": `{"not":"ours"}`},
	} {
		if !slices.ContainsFunc(lines, func(l map[string]any) bool { return cmp.Equal(want, l) }) {
			t.Errorf("no %v in %v", want, lines)
		}
	}
}

// What the child got of a photo it forgets when the job is done.
func TestPhotosAreWiped(t *testing.T) {
	pool := open(t, nil)
	r := ask("keep")
	r.Input = []byte("photo")
	if _, err := pool.Generate(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := does(t, pool, "peek"); got != string(make([]byte, 5)) {
		t.Errorf("left: %s", got)
	}
}
