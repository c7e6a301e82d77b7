package processor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// guard finds what it is told to, by target.
type guard struct {
	finds map[job.Target]job.Finding
	fails map[job.Target]error
	order []job.Target
	saw   []string
}

func (g *guard) check(t job.Target) ([]job.Verdict, error) {
	g.order = append(g.order, t)
	if err := g.fails[t]; err != nil {
		return nil, err
	}
	finding := g.finds[t]
	if finding == "" {
		finding = job.Passed
	}
	v := []job.Verdict{{Check: "test", Target: t, Finding: finding, Scores: map[string]float64{"x": 0.25}, Digest: "sha256:00"}}
	if finding == job.Blocked {
		return v, job.Errorf(job.Refused, "the check says no")
	}
	return v, nil
}

func (g *guard) Prompt(*job.Job) ([]job.Verdict, error) { return g.check(job.TargetPrompt) }

func (g *guard) Input(_ context.Context, photo []byte) ([]job.Verdict, error) {
	g.saw = append(g.saw, string(photo))
	return g.check(job.TargetInput)
}

func (g *guard) Output(_ context.Context, images []inference.Image) ([]job.Verdict, error) {
	for _, image := range images {
		g.saw = append(g.saw, string(image.Data))
	}
	return g.check(job.TargetOutput)
}

func guarded(t *testing.T, g *guard) *fixture {
	t.Helper()
	f := newFixture(t, processor.Recorder{})
	f.Processor = processor.New(processor.Options{
		Bucket: f.bucket, Engine: f.engine, Guard: g, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	return f
}

// The checks of a running worker can change, and go.
func TestAdjust(t *testing.T) {
	f := guarded(t, &guard{})
	for i, want := range []job.State{job.Failed, job.Done} {
		id := []string{"checked", "unchecked"}[i]
		f.Adjust([]processor.Settings{{Guard: &guard{finds: map[job.Target]job.Finding{job.TargetPrompt: job.Blocked}}}, {}}[i])
		if _, err := f.Process(t.Context(), text(id), first("t"), ignore); err != nil || f.record(t, id).State != want {
			t.Errorf("%s: %v, %+v", id, err, f.record(t, id))
		}
	}
}

// At level debug the log tells the beginning of a job and each of its stages,
// once, and nothing of its content.
func TestStagesAreLogged(t *testing.T) {
	var log strings.Builder
	f := newFixture(t, processor.Recorder{})
	f.Processor = processor.New(processor.Options{
		Bucket: f.bucket, Engine: f.engine, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	f.engine.generate = func(context.Context) error {
		for step := range 3 {
			f.engine.seen.Progress(job.Progress{Stage: job.StageDenoise, Step: step})
		}
		return nil
	}
	if _, err := f.Process(t.Context(), text("told"), first("t"), ignore); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="job begins" job_id=told attempt=1 kind=text-to-image model=`, "stage=fetch", "stage=denoise", "stage=store"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%s is not there once in %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Error(log.String())
	}
}

// What the checks found stands in the record, of jobs that are done and of those
// that are refused.
func TestChecks(t *testing.T) {
	all := []job.Target{job.TargetPrompt, job.TargetInput, job.TargetOutput}
	for name, tt := range map[string]struct {
		finds    map[job.Target]job.Finding
		state    job.State
		order    []job.Target
		engine   int
		requests int // of the input
	}{
		"passed":         {nil, job.Done, all, 1, 1},
		"flagged":        {map[job.Target]job.Finding{job.TargetPrompt: job.Flagged, job.TargetOutput: job.Flagged}, job.Done, all, 1, 1},
		"prompt blocked": {map[job.Target]job.Finding{job.TargetPrompt: job.Blocked}, job.Failed, all[:1], 0, 0},
		"input blocked":  {map[job.Target]job.Finding{job.TargetInput: job.Blocked}, job.Failed, all[:2], 0, 1},
		"output blocked": {map[job.Target]job.Finding{job.TargetOutput: job.Blocked, job.TargetPrompt: job.Flagged}, job.Failed, all, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := &guard{finds: tt.finds}
			f := guarded(t, g)
			j := f.photo(t, "a")
			requests := 0
			f.bucket.Before(func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Get && c.Key == *j.Input {
					requests++
				}
				if c.Op == storagetest.Put && tt.state == job.Failed {
					t.Errorf("%s is put", c.Key)
				}
				return nil
			})
			outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
			if err != nil || outcome.State != tt.state {
				t.Fatalf("got %+v, %v", outcome, err)
			}
			if diff := cmp.Diff(tt.order, g.order); diff != "" {
				t.Error(diff)
			}
			if f.engine.calls != tt.engine || requests != tt.requests {
				t.Errorf("%d inferences, %d fetches", f.engine.calls, requests)
			}
			r := f.record(t, "a")
			if len(r.Safety) != len(tt.order) {
				t.Fatalf("verdicts are %+v", r.Safety)
			}
			for i, v := range r.Safety {
				want := tt.finds[tt.order[i]]
				if want == "" {
					want = job.Passed
				}
				if v.Target != tt.order[i] || v.Finding != want || v.Scores["x"] != 0.25 || v.Digest != "sha256:00" {
					t.Errorf("verdict %d is %+v", i, v)
				}
			}
			if tt.state == job.Failed && (outcome.Code != job.Refused || r.Error.Message != "the check says no") {
				t.Errorf("outcome is %+v, record %+v", outcome, r.Error)
			}
			if len(g.order) == 3 {
				if diff := cmp.Diff([]string{"photo", "image 0", "image 1"}, g.saw); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// Whichever call of the storage fails, before or after it happened, a refused
// picture is never put, not by any attempt.
func TestRefusedPicturesUnderFaults(t *testing.T) {
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			f := guarded(t, &guard{finds: map[job.Target]job.Finding{job.TargetOutput: job.Blocked}})
			j := f.photo(t, "a")
			calls := 0
			watch := func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Put {
					t.Errorf("fault %d: %s is put", n, c.Key)
				}
				return nil
			}
			fault := func(context.Context, storagetest.Call) error {
				if calls++; calls == n {
					return storage.ErrUnavailable
				}
				return nil
			}
			f.bucket.Before(func(ctx context.Context, c storagetest.Call) error { return errors.Join(watch(ctx, c), fault(ctx, c)) })
			if late {
				f.bucket.Before(watch)
				f.bucket.After(fault)
			}
			var outcome job.Outcome
			var err error
			for attempt := 1; attempt <= 3; attempt++ {
				if outcome, err = f.Process(t.Context(), j, job.Attempt{ID: strings.Repeat("t", attempt), Number: attempt}, ignore); err == nil {
					break
				}
			}
			if err != nil || outcome.Code != job.Refused {
				t.Fatalf("fault %d: got %+v, %v", n, outcome, err)
			}
			f.keys(t, "results/a/deleted.json", "results/a/result.json")
			if calls < n {
				break
			}
		}
	}
}

// A check that cannot run lets nothing pass, and decides nothing.
func TestChecksThatCannotRun(t *testing.T) {
	for _, target := range []job.Target{job.TargetPrompt, job.TargetInput, job.TargetOutput} {
		f := guarded(t, &guard{fails: map[job.Target]error{target: job.Errorf(job.EngineFailed, "the engine process ended")}})
		j := f.photo(t, "a")
		if _, err := f.Process(t.Context(), j, first("t1"), ignore); err == nil || job.AsError(err).Code != job.EngineFailed {
			t.Errorf("%s: got %v", target, err)
		}
		f.keys(t, *j.Input)
	}
}

func TestVerdictsAsJSON(t *testing.T) {
	data, err := json.Marshal(job.Verdict{Check: "prompt", Target: job.TargetPrompt, Finding: job.Passed, Scores: map[string]float64{}, Digest: "sha256:00"})
	if want := `{"check":"prompt","target":"prompt","verdict":"passed","scores":{},"digest":"sha256:00"}`; err != nil || string(data) != want {
		t.Errorf("got %s, %v", data, err)
	}
}
