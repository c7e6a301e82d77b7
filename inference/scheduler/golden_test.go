package scheduler_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/scheduler"
)

// names maps the classes of the golden data to names that add no option.
var names = map[string]string{
	"EulerDiscreteScheduler": "euler", "EulerAncestralDiscreteScheduler": "euler-a", "DDIMScheduler": "ddim",
	"DDPMScheduler": "ddpm", "PNDMScheduler": "pndm", "LMSDiscreteScheduler": "lms", "HeunDiscreteScheduler": "heun",
	"KDPM2DiscreteScheduler": "dpm2", "KDPM2AncestralDiscreteScheduler": "dpm2-a",
	"DPMSolverMultistepScheduler": "dpmpp-2m", "DPMSolverSinglestepScheduler": "dpmpp-2s",
	"UniPCMultistepScheduler": "unipc", "DEISMultistepScheduler": "deis", "LCMScheduler": "lcm",
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// goldenRun is a run of a class in diffusers on 16 latent elements, with made-up model outputs.
type goldenRun struct {
	Name           string
	Scheduler      string
	Config         json.RawMessage
	Steps          int
	StepArgs       struct{ Eta *float64 } `json:"step_args"`
	InitNoiseSigma float32                `json:"init_noise_sigma"`
	Timesteps      []float32
	Sigmas         []float32
	ScaledInput    []float32   `json:"first_scaled_input4"`
	After          [][]float32 `json:"after_steps_0_1_2_first4"`
	Final          []float32
}

func goldenRuns(t *testing.T) []goldenRun {
	var file struct{ Cases []goldenRun }
	read(t, "runs.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("no golden cases")
	}
	return file.Cases
}

func (c goldenRun) scheduler(t *testing.T) scheduler.Scheduler {
	t.Helper()
	config, err := scheduler.ParseConfig(c.Config)
	if err != nil {
		t.Fatal(err)
	}
	config.Eta = c.StepArgs.Eta
	s, err := scheduler.New(names[c.Scheduler], config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// output is what the golden runs take for a model's output at a call.
func output(call, elements int) []float32 {
	out := make([]float32, elements)
	for j := range out {
		out[j] = float32((7*call+3*j)%11-5) / 5
	}
	return out
}

func draw(seed uint64, n int) []float32 {
	dst := make([]float32, n)
	noise.New(seed).Normal(dst)
	return dst
}

// near compares with a tolerance relative to the largest magnitude wanted.
func near(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	var scale, worst float64
	for i := range want {
		scale = max(scale, math.Abs(float64(want[i])))
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
		if math.IsNaN(float64(got[i])) {
			t.Fatalf("%s: NaN at %d", what, i)
		}
	}
	if worst > tolerance*scale {
		t.Errorf("%s: off by %.2g of %.2g (%.2g relative)\n got %v\nwant %v", what, worst, scale, worst/scale, got, want)
	}
}

func checkTimesteps(t *testing.T, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d timesteps, want %d: %v", len(got), len(want), got)
	}
	tolerance := 1e-4
	if !slices.ContainsFunc(want, func(v float32) bool { return v != float32(math.Trunc(float64(v))) }) {
		tolerance = 0 // whole numbers
	}
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > tolerance {
			t.Errorf("timestep %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestRunsEqualDiffusers(t *testing.T) {
	for _, c := range goldenRuns(t) {
		t.Run(c.Name, func(t *testing.T) {
			schedule, err := c.scheduler(t).Schedule(c.Steps, 1)
			if err != nil {
				t.Fatal(err)
			}
			checkTimesteps(t, schedule.Timesteps(), c.Timesteps)
			if c.Sigmas != nil {
				got := schedule.Sigmas()
				for i, want := range c.Sigmas[:len(got)] {
					if math.Abs(float64(got[i]-want)) > 2e-7*float64(want) {
						t.Errorf("sigma %d is %v, want %v", i, got[i], want)
					}
				}
			}
			near(t, "init_noise_sigma", []float32{schedule.InitNoiseSigma()}, []float32{c.InitNoiseSigma}, 2e-7)

			tolerance := 2e-6
			if strings.Contains(c.Name, "euler-zsnr") {
				tolerance = 1e-5 // sigma starts at 4096
			}
			x := draw(1234, len(c.Final))
			for i := range x {
				x[i] *= schedule.InitNoiseSigma()
			}
			scaled := make([]float32, len(x))
			random := noise.New(99)
			st := schedule.NewState(len(x))
			for !st.Done() {
				call := st.Call()
				if st.Timestep() != schedule.Timesteps()[call] {
					t.Fatalf("call %d asks at %v", call, st.Timestep())
				}
				st.ScaleInput(scaled, x)
				if call == 0 {
					near(t, "first input", scaled[:4], c.ScaledInput, tolerance)
				}
				st.Step(x, output(call, len(x)), random)
				if call < len(c.After) {
					near(t, "early sample", x[:4], c.After[call], tolerance)
				}
			}
			near(t, "final sample", x, c.Final, tolerance)
		})
	}
}

func TestImageToImageStartEqualsDiffusers(t *testing.T) {
	var file struct {
		Cases []struct {
			Name          string
			Scheduler     string
			Config        json.RawMessage
			Steps         int
			FirstTimestep float32 `json:"first_timestep"`
			ModelCalls    int     `json:"n_model_calls"`
			Noised        []float32
		}
	}
	read(t, "image-to-image.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("no golden cases")
	}
	runs := goldenRuns(t)
	for _, c := range file.Cases {
		run := goldenRun{Scheduler: c.Scheduler, Config: c.Config, Steps: c.Steps}
		if i := slices.IndexFunc(runs, func(r goldenRun) bool { return r.Name == c.Name }); i >= 0 {
			run = runs[i]
		}
		t.Run(c.Name, func(t *testing.T) {
			schedule, err := run.scheduler(t).Schedule(run.Steps, 0.6)
			if err != nil {
				t.Fatal(err)
			}
			timesteps := schedule.Timesteps()
			checkTimesteps(t, timesteps[:1], []float32{c.FirstTimestep})
			if len(timesteps) != c.ModelCalls {
				t.Errorf("%d calls, want %d", len(timesteps), c.ModelCalls)
			}
			got := make([]float32, len(c.Noised))
			schedule.AddNoise(got, cleanSample(len(got)), draw(77, len(got)), 0)
			near(t, "noised sample", got, c.Noised, 1e-6)
		})
	}
}
