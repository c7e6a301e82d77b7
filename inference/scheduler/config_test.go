package scheduler_test

import (
	"errors"
	"math"
	"testing"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/scheduler"
)

func TestParseConfig(t *testing.T) {
	c, err := scheduler.ParseConfig([]byte(`{
		"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.39.0", "some_later_key": {"a": "-Infinity \" -Infinity"},
		"lambda_min_clipped": -Infinity, "sigma_min": null, "steps_offset": 0, "prediction_type": "v_prediction"}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.ClassName != "DPMSolverMultistepScheduler" || c.PredictionType() != "v_prediction" {
		t.Errorf("class %q, prediction %q", c.ClassName, c.PredictionType())
	}
	if c.LambdaMinClipped == nil || !math.IsInf(float64(*c.LambdaMinClipped), -1) {
		t.Errorf("lambda_min_clipped %v", c.LambdaMinClipped)
	}
	if c.SigmaMin != nil || c.BetaStart != nil {
		t.Error("null and absent values must be nil")
	}
	if c.StepsOffset == nil || *c.StepsOffset != 0 {
		t.Error("a zero must be present")
	}
	if (scheduler.Config{}).PredictionType() != "epsilon" {
		t.Error("the default prediction is epsilon")
	}
}

func TestParseConfigIsStrictOnTypes(t *testing.T) {
	for _, data := range []string{
		``, `[]`, `{`, `{"beta_start": "0.1"}`, `{"num_train_timesteps": 1.5}`, `{"use_karras_sigmas": 1}`, `{"trained_betas": 3}`,
		`{"_class_name": 1}`, `{"beta_start": -Infinity}`, `{"beta_start": NaN}`, `{"lambda_min_clipped": "low"}`,
	} {
		if _, err := scheduler.ParseConfig([]byte(data)); err == nil {
			t.Errorf("%s was accepted", data)
		}
	}
}

// A stranger's configuration gives a finite picture or an error, never a panic.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		`{"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 1}`,
		`{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "solver_order": 3, "use_lu_lambdas": true}`,
		`{"_class_name": "UniPCMultistepScheduler", "use_beta_sigmas": true, "disable_corrector": [0, 1], "num_train_timesteps": 7}`,
		`{"_class_name": "DDPMScheduler", "trained_betas": [0.1, 0.2], "num_train_timesteps": 2, "thresholding": true}`,
		`{"_class_name": "HeunDiscreteScheduler", "beta_schedule": "exp", "timestep_spacing": "trailing", "sigma_max": 1e300}`,
	} {
		f.Add([]byte(seed), uint8(0), uint8(10), uint8(255))
		f.Add([]byte(seed), uint8(11), uint8(3), uint8(128))
	}
	f.Fuzz(func(t *testing.T, data []byte, which, steps, strength uint8) {
		config, err := scheduler.ParseConfig(data)
		if err != nil {
			return
		}
		names := append([]string{""}, scheduler.Names()...)
		s, err := scheduler.New(names[int(which)%len(names)], config)
		if err != nil {
			if !errors.Is(err, scheduler.ErrUnknown) && !errors.Is(err, scheduler.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		schedule, err := s.Schedule(int(steps), float64(strength)/255)
		if err != nil {
			if !errors.Is(err, scheduler.ErrSteps) && !errors.Is(err, scheduler.ErrUnsupported) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		run(schedule, draw(1, 16), noise.New(1))
	})
}
