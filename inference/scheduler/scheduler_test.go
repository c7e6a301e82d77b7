package scheduler_test

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/scheduler"
)

// stableDiffusion is the noise schedule of every Stable Diffusion model.
const stableDiffusion = `"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": true, "clip_sample": false`

// fataler is any of *testing.T, *testing.B and *rapid.T.
type fataler interface{ Fatal(args ...any) }

// parse reads the configuration of a Stable Diffusion model with further options, which may be "".
func parse(t fataler, options string) scheduler.Config {
	if options != "" {
		options = ", " + options
	}
	c, err := scheduler.ParseConfig([]byte("{" + stableDiffusion + options + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newScheduler(t fataler, name, options string) scheduler.Scheduler {
	s, err := scheduler.New(name, parse(t, options))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// callsPerStep is how many calls of a run an image-to-image start skips for a step.
func callsPerStep(name string) int {
	if slices.Contains([]string{"heun", "dpm2", "dpm2-a"}, name) {
		return 2
	}
	return 1
}

func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(scheduler.Names()).Draw(t, "name")
		prediction := rapid.SampledFrom([]string{"epsilon", "v_prediction"}).Draw(t, "prediction")
		spacing := rapid.SampledFrom([]string{"leading", "linspace", "trailing"}).Draw(t, "spacing")
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		if name == "lcm" {
			steps = min(steps, 50)
		}
		strength := rapid.Float64Range(0.01, 1).Draw(t, "strength")
		s := newScheduler(t, name, fmt.Sprintf(`"prediction_type": %q, "timestep_spacing": %q, "steps_offset": 1`, prediction, spacing))

		full, err := s.Schedule(steps, 1)
		if err != nil {
			t.Fatal(err)
		}
		timesteps := full.Timesteps()
		for i := 1; i < len(timesteps); i++ {
			switch {
			case name == "dpm2-a":
				// The middle of a step to below the next sigma may lie below the next timestep; steps fall.
				if i%2 == 0 && timesteps[i] >= timesteps[i-2] {
					t.Fatalf("timesteps rise at %d: %v", i, timesteps)
				}
			case timesteps[i] > timesteps[i-1]:
				t.Fatalf("timesteps rise at %d: %v", i, timesteps)
			case timesteps[i] < timesteps[i-1]:
			case name == "pndm" && i == 2, name == "heun", strings.HasSuffix(name, "karras"):
				// PNDM repeats its second timestep, Heun asks twice; rounding may join Karras timesteps.
			default:
				t.Fatalf("timestep %d is repeated: %v", i, timesteps)
			}
		}
		if first, last := timesteps[0], timesteps[len(timesteps)-1]; first > 999 || last < 0 {
			t.Fatalf("timesteps go from %v to %v", first, last)
		}
		if sigmas := full.Sigmas(); sigmas != nil {
			if !slices.IsSortedFunc(sigmas, func(a, b float32) int { return cmp.Compare(b, a) }) {
				t.Fatalf("sigmas rise: %v", sigmas)
			}
			if last := sigmas[len(sigmas)-1]; (last == 0) == (name == "deis") {
				t.Fatalf("the last sigma is %v", last)
			}
		}

		kept := int(float64(steps) * strength)
		part, err := s.Schedule(steps, strength)
		if kept == 0 {
			if !errors.Is(err, scheduler.ErrSteps) {
				t.Fatalf("no step is left, and the error is %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := timesteps[(steps-kept)*callsPerStep(name):]; !slices.Equal(part.Timesteps(), want) {
			t.Fatalf("kept timesteps %v, want %v", part.Timesteps(), want)
		}
	})
}

// The product of steps and strength is truncated as floating point has it.
func TestKeptSteps(t *testing.T) {
	s := newScheduler(t, "euler", "")
	for _, c := range []struct {
		steps    int
		strength float64
		want     int
	}{{100, 0.29, 28}, {50, 0.6, 30}, {20, 0.35, 7}, {10, 0.7, 7}, {10, 1, 10}, {3, 0.34, 1}} {
		schedule, err := s.Schedule(c.steps, c.strength)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(schedule.Timesteps()); got != c.want {
			t.Errorf("%d steps at %v: %d, want %d", c.steps, c.strength, got, c.want)
		}
	}
}

// The pipelines of LCM models choose among fewer distillation steps, and keep the number of steps.
func TestLCMStrength(t *testing.T) {
	own := newScheduler(t, "", `"_class_name": "LCMScheduler"`)
	schedule, err := own.Schedule(4, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := schedule.Timesteps(), []float32{499, 379, 259, 139}; !slices.Equal(got, want) {
		t.Errorf("timesteps %v, want %v", got, want)
	}
	if _, err := own.Schedule(4, 0.06); !errors.Is(err, scheduler.ErrSteps) {
		t.Errorf("4 steps of 3: %v", err)
	}
	other := newScheduler(t, "lcm", `"_class_name": "EulerDiscreteScheduler"`)
	if schedule, err = other.Schedule(4, 0.5); err != nil {
		t.Fatal(err)
	}
	if got, want := schedule.Timesteps(), []float32{499, 259}; !slices.Equal(got, want) {
		t.Errorf("timesteps %v, want %v", got, want)
	}
}

func TestScheduleErrors(t *testing.T) {
	for _, name := range scheduler.Names() {
		s := newScheduler(t, name, "")
		for _, c := range []struct {
			steps    int
			strength float64
		}{{0, 1}, {-1, 1}, {1001, 1}, {10, 0}, {1, 0.99}, {10, -0.5}, {10, 1.5}, {10, math.NaN()}} {
			if _, err := s.Schedule(c.steps, c.strength); !errors.Is(err, scheduler.ErrSteps) {
				t.Errorf("%s: %d steps at %v: %v", name, c.steps, c.strength, err)
			}
		}
	}
}

func TestWipe(t *testing.T) {
	for _, name := range scheduler.Names() {
		schedule, err := newScheduler(t, name, "").Schedule(10, 1)
		if err != nil {
			t.Fatal(err)
		}
		st, x, g := schedule.NewState(16), draw(1, 16), noise.New(1)
		for range 3 {
			st.Step(x, draw(2, 16), g)
		}
		if scheduler.Remembered(st) == 0 {
			t.Errorf("%s: nothing is remembered", name)
		}
		if st.Wipe(); scheduler.Remembered(st) > 0 {
			t.Errorf("%s: %d numbers stay", name, scheduler.Remembered(st))
		}
	}
}

func TestNewErrors(t *testing.T) {
	for _, c := range []struct {
		name, config string
		want         error
		says         string
	}{
		{"euler-b", ``, scheduler.ErrUnknown, "dpmpp-2m-karras"},
		{"", `"_class_name": "FlowMatchEulerDiscreteScheduler"`, scheduler.ErrUnknown, "PNDMScheduler"},
		{"", ``, scheduler.ErrUnknown, "class"},
		{"euler", `"prediction_type": "flow_prediction"`, scheduler.ErrUnsupported, "flow_prediction"},
		{"euler-a", `"prediction_type": "sample"`, scheduler.ErrUnsupported, "sample"},
		{"euler", `"beta_schedule": "exp"`, scheduler.ErrUnsupported, "exp"},
		{"euler", `"timestep_spacing": "sideways"`, scheduler.ErrUnsupported, "sideways"},
		{"euler-karras", `"use_beta_sigmas": true`, scheduler.ErrUnsupported, "only one"},
		{"ddim", `"num_train_timesteps": 1000000000`, scheduler.ErrUnsupported, "num_train_timesteps"},
		{"unipc", `"solver_type": "bh1"`, scheduler.ErrUnsupported, "NaN"},
		{"unipc", `"lower_order_final": false`, scheduler.ErrUnsupported, "NaN"},
		{"dpmpp-2m", `"algorithm_type": "dpmsolver"`, scheduler.ErrUnsupported, "sigma_min"},
		{"dpmpp-2m", `"use_flow_sigmas": true`, scheduler.ErrUnsupported, "flow"},
		{"dpmpp-2s", `"solver_order": 4`, scheduler.ErrUnsupported, "solver_order"},
	} {
		_, err := scheduler.New(c.name, parse(t, c.config))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q with %s: %v", c.name, c.config, err)
		}
	}
}

// What turns into NaN in the reference is refused before a model runs.
func TestNaNIsRefused(t *testing.T) {
	for _, c := range []struct{ name, config string }{
		{"unipc", `"use_karras_sigmas": true, "final_sigmas_type": "sigma_min", "solver_order": 3, "lower_order_final": false`}, // a last step of no length
		{"ddim", `"rescale_betas_zero_snr": true, "timestep_spacing": "trailing", "prediction_type": "epsilon"`},                // no signal to divide by
		{"lcm", `"rescale_betas_zero_snr": true, "thresholding": true`},
	} {
		if _, err := newScheduler(t, c.name, c.config).Schedule(10, 1); !errors.Is(err, scheduler.ErrUnsupported) {
			t.Errorf("%s with %s: %v", c.name, c.config, err)
		}
	}
}

// States of one schedule are independent, however their steps interleave.
func TestStatesAreIndependent(t *testing.T) {
	const elements, rows = 64, 4
	for _, name := range scheduler.Names() {
		schedule, err := newScheduler(t, name, "").Schedule(9, 1)
		if err != nil {
			t.Fatal(err)
		}
		var alone, together [rows][]float32
		for row := range rows {
			alone[row], together[row] = draw(uint64(row), elements), draw(uint64(row), elements)
			run(schedule, alone[row], noise.New(uint64(100+row)))
		}
		var group sync.WaitGroup
		for row := range rows {
			group.Go(func() { run(schedule, together[row], noise.New(uint64(100+row))) })
		}
		group.Wait()
		for row := range rows {
			if !slices.Equal(alone[row], together[row]) {
				t.Errorf("%s: row %d differs beside others", name, row)
			}
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	const elements = 256
	for _, name := range scheduler.Names() {
		schedule, err := newScheduler(t, name, `"thresholding": true`).Schedule(30, 1)
		if err != nil {
			t.Fatal(err)
		}
		st, random := schedule.NewState(elements), noise.New(1)
		x, input, out := draw(1, elements), make([]float32, elements), draw(2, elements)
		if n := testing.AllocsPerRun(20, func() { st.ScaleInput(input, x); st.Step(x, out, random) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	const elements = 4 * 64 * 64 // the latents of a 512 x 512 image
	for _, name := range scheduler.Names() {
		b.Run(name, func(b *testing.B) {
			schedule, err := newScheduler(b, name, "").Schedule(20, 1)
			if err != nil {
				b.Fatal(err)
			}
			x, out, random := draw(1, elements), draw(2, elements), noise.New(1)
			st := schedule.NewState(elements)
			for b.Loop() {
				if st.Done() {
					st = schedule.NewState(elements)
				}
				st.Step(x, out, random)
			}
		})
	}
}
