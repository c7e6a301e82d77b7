package scheduler_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/scheduler"
)

// Every name, on the configurations of models of every family, text-to-image and image-to-image.
func TestNamesEqualDiffusers(t *testing.T) {
	var golden struct {
		Configs map[string]json.RawMessage
		Cases   []struct {
			Model, Name    string
			Steps          int
			Strength       float64
			Timesteps      []float32
			InitNoiseSigma float32 `json:"init_noise_sigma"`
			Start, Final   []float32
			Scale          float32
		}
	}
	read(t, "names.json", &golden)
	seen := map[string]bool{}
	for _, c := range golden.Cases {
		seen[c.Name] = true
		t.Run(fmt.Sprintf("%s of %s, %d steps at %v", c.Name, c.Model, c.Steps, c.Strength), func(t *testing.T) {
			config, err := scheduler.ParseConfig(golden.Configs[c.Model])
			if err != nil {
				t.Fatal(err)
			}
			s, err := scheduler.New(c.Name, config)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name() != c.Name {
				t.Errorf("name %q", s.Name())
			}
			schedule, err := s.Schedule(c.Steps, c.Strength)
			if err != nil {
				t.Fatal(err)
			}
			checkTimesteps(t, schedule.Timesteps(), c.Timesteps)
			near(t, "init_noise_sigma", []float32{schedule.InitNoiseSigma()}, []float32{c.InitNoiseSigma}, 2e-7)

			const elements = 16
			x := draw(77, elements)
			if c.Strength < 1 {
				schedule.AddNoise(x, cleanSample(elements), x, 0)
			} else {
				for i := range x {
					x[i] *= schedule.InitNoiseSigma()
				}
			}
			near(t, "start", x[:len(c.Start)], c.Start, 1e-6)
			run(schedule, x, noise.New(99))
			for i, want := range c.Final {
				if off := x[i] - want; off > 2e-6*c.Scale || -off > 2e-6*c.Scale || off != off {
					t.Errorf("final sample %d is %v, want %v", i, x[i], want)
				}
			}
		})
	}
	for _, name := range scheduler.Names() {
		if !seen[name] {
			t.Errorf("%s has no golden case", name)
		}
	}
}

// cleanSample is what the golden data takes for an encoded picture.
func cleanSample(elements int) []float32 {
	x := make([]float32, elements)
	for j := range x {
		x[j] = float32(5*j%7-3) / 3
	}
	return x
}

// run takes x through a whole schedule with the golden model outputs.
func run(schedule *scheduler.Schedule, x []float32, random scheduler.Noise) {
	for st := schedule.NewState(len(x)); !st.Done(); {
		st.Step(x, output(st.Call(), len(x)), random)
	}
}

func TestOwnScheduler(t *testing.T) {
	for config, want := range map[string]string{
		`{"_class_name": "PNDMScheduler"}`:                                                                               "pndm",
		`{"_class_name": "EulerDiscreteScheduler"}`:                                                                      "euler",
		`{"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true}`:                                           "euler-karras",
		`{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true}`:                                      "dpmpp-2m-karras",
		`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}`:                            "dpmpp-2m-sde",
		`{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": true}`: "dpmpp-2m-sde-karras",
		`{"_class_name": "UniPCMultistepScheduler", "use_karras_sigmas": true}`:                                          "unipc",
		`{"_class_name": "LCMScheduler"}`:                                                                                "lcm",
	} {
		c, err := scheduler.ParseConfig([]byte(config))
		if err != nil {
			t.Fatal(err)
		}
		s, err := scheduler.New("", c)
		if err != nil {
			t.Errorf("%s: %v", config, err)
			continue
		}
		if d := cmp.Diff(want, s.Name()); d != "" {
			t.Errorf("%s (-want +got):\n%s", config, d)
		}
	}
}
