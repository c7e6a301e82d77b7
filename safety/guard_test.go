package safety_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/safety"
)

// eyes see in a picture the score that its first byte says, in percent.
type eyes struct {
	err   error
	saw   []job.Target
	blind map[string]float64
}

func (e *eyes) Classify(_ context.Context, p inference.Picture) (*inference.Classification, error) {
	e.saw = append(e.saw, p.Target)
	if e.err != nil {
		return nil, e.err
	}
	scores := map[string]float64{"bad": float64(p.Data[0]) / 100, "good": 0}
	if e.blind != nil {
		scores = e.blind
	}
	return &inference.Classification{Scores: scores, Digest: "sha256:model"}, nil
}

var policies = []safety.Policy{safety.Off, safety.Flag, safety.Block, ""}

func TestPromptPolicies(t *testing.T) {
	list := parse(t, "foo\n")
	for _, policy := range policies {
		g := safety.New(safety.Options{Prompt: policy, List: list})
		for name, tt := range map[string]struct {
			job   job.Job
			found bool
		}{
			"none":            {job.Job{}, false},
			"innocent":        {job.Job{Prompt: new("bar")}, false},
			"prompt":          {job.Job{Prompt: new("a foo")}, true},
			"second":          {job.Job{Prompt: new("bar"), Prompt2: new("f0o")}, true},
			"negative":        {job.Job{Prompt: new("bar"), NegativePrompt: new("foo"), NegativePrompt2: new("(foo:1.2)")}, false},
			"turned round":    {job.Job{Prompt: new("bar"), NegativePrompt: new("(foo:-1)")}, true},
			"second negative": {job.Job{Prompt: new("bar"), NegativePrompt2: new("(foo: -1)")}, true},
		} {
			verdicts, err := g.Prompt(&tt.job)
			if policy == safety.Off || policy == "" {
				if verdicts != nil || err != nil {
					t.Errorf("%s %s: got %v, %v", policy, name, verdicts, err)
				}
				continue
			}
			want := job.Verdict{Check: "prompt", Target: job.TargetPrompt, Finding: job.Passed, Scores: map[string]float64{}, Digest: list.Digest()}
			if tt.found {
				want.Finding = map[safety.Policy]job.Finding{safety.Flag: job.Flagged, safety.Block: job.Blocked}[policy]
			}
			if diff := cmp.Diff([]job.Verdict{want}, verdicts); diff != "" {
				t.Errorf("%s %s: %s", policy, name, diff)
			}
			if refused := tt.found && policy == safety.Block; refused != (err != nil) || refused && job.AsError(err).Code != job.Refused {
				t.Errorf("%s %s: got %v", policy, name, err)
			}
		}
	}
}

func TestPicturePolicies(t *testing.T) {
	for _, policy := range policies {
		e := &eyes{}
		thresholds := map[string]float64{"bad": 0.5}
		g := safety.New(safety.Options{Input: policy, Output: policy, Classifier: e, Thresholds: thresholds})
		for score, found := range map[byte]bool{0: false, 49: false, 50: true, 100: true} {
			input, inputErr := g.Input(t.Context(), []byte{score})
			output, outputErr := g.Output(t.Context(), []inference.Image{{Data: []byte{0}}, {Data: []byte{score}}})
			if policy == safety.Off || policy == "" {
				if len(e.saw) > 0 || input != nil || output != nil || inputErr != nil || outputErr != nil {
					t.Errorf("off: %v, %v, %v, %v", input, output, inputErr, outputErr)
				}
				continue
			}
			want := job.Passed
			if found {
				want = map[safety.Policy]job.Finding{safety.Flag: job.Flagged, safety.Block: job.Blocked}[policy]
			}
			verdict := job.Verdict{
				Check: "image", Target: job.TargetInput, Finding: want, Scores: map[string]float64{"bad": float64(score) / 100, "good": 0},
				Thresholds: thresholds, Digest: "sha256:model",
			}
			if diff := cmp.Diff([]job.Verdict{verdict}, input); diff != "" {
				t.Error(diff)
			}
			verdict.Target, verdict.Image = job.TargetOutput, new(1)
			if len(output) != 2 || output[0].Finding != job.Passed || *output[0].Image != 0 {
				t.Fatalf("outputs are %+v", output)
			}
			if diff := cmp.Diff(verdict, output[1]); diff != "" {
				t.Error(diff)
			}
			for _, err := range []error{inputErr, outputErr} {
				if refused := found && policy == safety.Block; refused != (err != nil) || refused && job.AsError(err).Code != job.Refused {
					t.Errorf("%s, %d: got %v", policy, score, err)
				}
			}
		}
	}
}

// Without a photo there is nothing to look at.
func TestNoPhoto(t *testing.T) {
	e := &eyes{}
	g := safety.New(safety.Options{Input: safety.Block, Classifier: e, Thresholds: map[string]float64{"bad": 0.5}})
	if v, err := g.Input(t.Context(), nil); v != nil || err != nil || len(e.saw) > 0 {
		t.Errorf("got %v, %v", v, err)
	}
}

// A classifier that fails, or says nothing of a label that matters, lets nothing
// pass, whatever the policy.
func TestBlindClassifier(t *testing.T) {
	broken := job.Errorf(job.EngineFailed, "it ended")
	for name, e := range map[string]*eyes{
		"fails":     {err: broken},
		"no label":  {blind: map[string]float64{"good": 1}},
		"no number": {blind: map[string]float64{"bad": math.NaN()}},
		"no scores": {blind: map[string]float64{}},
	} {
		for _, policy := range []safety.Policy{safety.Flag, safety.Block} {
			g := safety.New(safety.Options{Input: policy, Output: policy, Classifier: e, Thresholds: map[string]float64{"bad": 0.5}})
			_, input := g.Input(t.Context(), []byte{0})
			_, output := g.Output(t.Context(), []inference.Image{{Data: []byte{0}}})
			for _, err := range []error{input, output} {
				var known *job.Error
				if !errors.As(err, &known) || known.Code != job.EngineFailed {
					t.Errorf("%s: got %v", name, err)
				}
			}
		}
	}
}
