package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
)

func jsonLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }

// However a child dies, the job is told, the parent goes on, and the next job
// runs.
func TestCrashes(t *testing.T) {
	pool := open(t, nil)
	ends := []string{"fault", "panic", "exit"}
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGILL} {
		ends = append(ends, fmt.Sprintf("signal %d", s))
	}
	var again []time.Duration
	for i := range 24 {
		words := ends[i%len(ends)]
		fails(t, pool, words, job.EngineFailed, "the engine process ended while it worked on the job")
		start := time.Now()
		does(t, pool, "echo")
		again = append(again, time.Since(start))
	}
	slices.Sort(again)
	t.Logf("next job done after: median %s, longest %s", again[len(again)/2], again[len(again)-1])
	if d := pool.Health()[0]; d.Restarts != 24 || d.State != remote.Ready {
		t.Errorf("%+v", d)
	}
}

func TestExitIsDescribed(t *testing.T) {
	pool := open(t, nil)
	for words, says := range map[string]string{
		"signal 9": "signal: killed", "fault": "fatal error: fault", "panic": "panic: as told", "exit": "exit status 3",
	} {
		fails(t, pool, words, job.EngineFailed, says)
		does(t, pool, "echo")
	}
}

// A child killed from outside, at any moment.
func TestKilledAtRandomMoments(t *testing.T) {
	pool := open(t, nil)
	for range 20 {
		ended := make(chan error, 1)
		go func() {
			_, err := pool.Generate(t.Context(), ask("steps 20 1ms"))
			ended <- err
		}()
		time.Sleep(rand.N(30 * time.Millisecond))
		if pid := pool.Health()[0].PID; pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := <-ended; err != nil && job.AsError(err).Code != job.EngineFailed {
			t.Fatal(err)
		}
		does(t, pool, "echo")
	}
}

// A child that died while it was idle costs no job.
func TestKilledWhileIdle(t *testing.T) {
	pool := open(t, nil)
	for range 10 {
		_ = syscall.Kill(pool.Health()[0].PID, syscall.SIGKILL)
		does(t, pool, "echo")
	}
}

func TestPoisonAmongGood(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Devices = []string{"cpu", "cuda:0"} })
	errs := make(chan error)
	for i := range 60 {
		go func() {
			words := "steps 2 1ms"
			if i%20 == 7 {
				words = "signal 11"
			}
			_, err := pool.Generate(t.Context(), ask(words))
			if (err != nil) != (words == "signal 11") {
				errs <- fmt.Errorf("%s: %w", words, err)
				return
			}
			errs <- nil
		}()
	}
	for range 60 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestCancelAtRandomMoments(t *testing.T) {
	pool := open(t, nil)
	pid := does(t, pool, "pid")
	var took []time.Duration
	for range 50 {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := pool.Generate(ctx, ask("steps 100000 5ms"))
			ended <- err
		}()
		time.Sleep(rand.N(20 * time.Millisecond))
		start := time.Now()
		cancel(job.ErrCancelled)
		if err := <-ended; !errors.Is(err, job.ErrCancelled) {
			t.Fatal(err)
		}
		does(t, pool, "echo") // it is idle, or this would wait
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("cancel to idle: median %s, 99th percentile %s", took[len(took)/2], took[len(took)-1])
	if now := does(t, pool, "pid"); now != pid {
		t.Error("a child that stops by itself was ended")
	}
}

func TestCancelWhileThePhotoCrosses(t *testing.T) {
	pool := open(t, nil)
	pid := does(t, pool, "pid")
	photo := make([]byte, 20<<20)
	for range 30 {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(rand.N(15*time.Millisecond), func() { cancel(job.ErrShutdown) })
		r := ask("steps 1000000 1ms")
		r.Input = photo
		if _, err := pool.Generate(ctx, r); !errors.Is(err, job.ErrShutdown) {
			t.Fatal(err)
		}
	}
	if now := does(t, pool, "pid"); now != pid {
		t.Error("the child was ended")
	}
}

// An engine that does not obey is ended after the grace.
func TestCancelOfAStuckEngine(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Grace = 100 * time.Millisecond })
	for _, words := range []string{"hang denoise", fmt.Sprintf("signal %d", syscall.SIGSTOP)} {
		pid := does(t, pool, "pid")
		ctx, cancel := context.WithCancelCause(t.Context())
		r := ask(words)
		r.Progress = func(p job.Progress) {
			if p.Stage == job.StageDenoise {
				cancel(job.ErrCancelled)
			}
		}
		if _, err := pool.Generate(ctx, r); !errors.Is(err, job.ErrCancelled) {
			t.Fatalf("%s: %v", words, err)
		}
		if now := does(t, pool, "pid"); now == pid {
			t.Errorf("%s: the child still lives", words)
		}
		if d := pool.Health()[0]; !strings.Contains(d.Error, "did not stop within 100ms") {
			t.Errorf("%+v", d)
		}
	}
}

func TestHangs(t *testing.T) {
	for _, stage := range []job.Stage{job.StageLoad, job.StageDecode, job.StageText, job.StageDenoise, job.StageVAE, job.StageEncode} {
		t.Run(string(stage), func(t *testing.T) {
			long := remote.Patience{Least: time.Minute, Most: time.Minute}
			short := remote.Patience{Least: 50 * time.Millisecond, Most: 200 * time.Millisecond}
			d := remote.Deadlines{Load: long, Prepare: long, Step: long, VAE: long, Encode: long}
			switch stage {
			case job.StageDenoise:
				d.Step = short
			case job.StageVAE:
				d.VAE = short
			case job.StageEncode:
				d.Encode = short
			case job.StageLoad:
				d.Load = short
			default:
				d.Prepare = short
			}
			pool := open(t, func(o *remote.Options) { o.Deadlines = d })
			fails(t, pool, "hang "+string(stage), job.EngineFailed, "the engine made no progress on the job and was stopped")
			does(t, pool, "echo")
			fails(t, pool, "hang "+string(stage), job.EngineFailed, "no sign of progress in stage "+string(stage))
		})
	}
}

// Steps that take as long as they always do are no hang, however many.
func TestSlowIsNoHang(t *testing.T) {
	pool := open(t, func(o *remote.Options) {
		o.Deadlines.Step = remote.Patience{Least: time.Second, Most: time.Second}
	})
	does(t, pool, "steps 40 30ms")
}

// What a warm-up took bounds the jobs after it, and it may hang itself.
func TestWarmUpTeachesDeadlines(t *testing.T) {
	pool := open(t, func(o *remote.Options) {
		o.Deadlines = remote.Deadlines{Step: remote.Patience{Least: 100 * time.Millisecond, Most: time.Hour}, Load: remote.Patience{Most: 500 * time.Millisecond}}
	})
	if err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "steps"}); err != nil {
		t.Fatal(err)
	}
	r := ask("hang denoise")
	r.Job.Model = "steps"
	if _, err := pool.Generate(t.Context(), r); job.AsError(err).Code != job.EngineFailed {
		t.Errorf("a step that hangs: %v", err)
	}
	eventually(t, "ready", pool.Ready)
	err := pool.WarmUp(t.Context(), inference.WarmUp{Model: "hang"})
	if job.AsError(err).Code != job.EngineFailed || !strings.Contains(err.Error(), "made no progress") {
		t.Errorf("a warm-up that hangs: %v", err)
	}
}
