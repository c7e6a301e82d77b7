package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// maxTrainSteps bounds the tables that a stranger's configuration can ask for.
const maxTrainSteps = 10_000

// training is the noise schedule that the model was trained with, one entry for each training timestep.
type training struct {
	betas         []float32
	alphasCumprod []float32 // the share of signal in the variance
	sigmas        []float32 // sqrt((1-alphasCumprod)/alphasCumprod)
}

// betaDefaults is what a class has in place of absent values.
type betaDefaults struct {
	start, end float64
	schedule   string
	also       []string // schedules besides linear, scaled_linear and squaredcos_cap_v2
	zeroSNR    zeroSNR
}

// zeroSNR is what a class makes of rescale_betas_zero_snr.
type zeroSNR int

const (
	ignoreZeroSNR zeroSNR = iota
	exactZeroSNR          // the last alphasCumprod is 0
	nearZeroSNR           // it is 2^-24, so that the first sigma is finite
)

func (t *training) trainSteps() int { return len(t.betas) }

func newTraining(c Config, d betaDefaults) (training, error) {
	betas, err := newBetas(c, d)
	if err != nil {
		return training{}, err
	}
	rescale := d.zeroSNR != ignoreZeroSNR && or(c.RescaleBetasToZero, false)
	if rescale {
		betas = rescaleZeroSNR(betas)
	}
	t := training{betas: betas, alphasCumprod: cumprod(betas), sigmas: make([]float32, len(betas))}
	if rescale && d.zeroSNR == nearZeroSNR {
		t.alphasCumprod[len(betas)-1] = 0x1p-24
	}
	for i, a := range t.alphasCumprod {
		t.sigmas[i] = sqrt((1 - a) / a)
	}
	return t, nil
}

func newBetas(c Config, d betaDefaults) ([]float32, error) {
	if c.TrainedBetas != nil {
		if n := len(c.TrainedBetas); n < 2 || n > maxTrainSteps || n != or(c.NumTrainTimesteps, 1000) {
			return nil, fmt.Errorf("%w: %d trained_betas for %d num_train_timesteps", ErrUnsupported, n, or(c.NumTrainTimesteps, 1000))
		}
		betas := make([]float32, len(c.TrainedBetas))
		for i, b := range c.TrainedBetas {
			betas[i] = float32(b)
		}
		return betas, nil
	}
	steps := or(c.NumTrainTimesteps, 1000)
	if steps < 2 || steps > maxTrainSteps {
		return nil, fmt.Errorf("%w: num_train_timesteps %d is not between 2 and %d", ErrUnsupported, steps, maxTrainSteps)
	}
	start, end := or(c.BetaStart, d.start), or(c.BetaEnd, d.end)
	if !(start > 0 && start < 1 && end > 0 && end < 1) {
		return nil, fmt.Errorf("%w: beta_start %v and beta_end %v are not between 0 and 1", ErrUnsupported, start, end)
	}
	schedule := or(c.BetaSchedule, d.schedule)
	switch schedule {
	case "linear":
		return linspace32(start, end, steps), nil
	case "scaled_linear":
		betas := linspace32(math.Sqrt(start), math.Sqrt(end), steps)
		for i, b := range betas {
			betas[i] = b * b
		}
		return betas, nil
	case "squaredcos_cap_v2":
		return betasForAlphaBar(steps, func(t float64) float64 {
			c := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
			return c * c
		}), nil
	}
	if !slices.Contains(d.also, schedule) {
		return nil, fmt.Errorf("%w: beta_schedule %q", ErrUnsupported, schedule)
	}
	switch schedule {
	case "exp":
		return betasForAlphaBar(steps, func(t float64) float64 { return math.Exp(-12 * t) }), nil
	case "laplace":
		return betasForAlphaBar(steps, func(t float64) float64 {
			snr := math.Exp(-0.5 * math.Copysign(1, 0.5-t) * math.Log(1-2*math.Abs(0.5-t)+1e-6))
			return math.Sqrt(snr / (1 + snr))
		}), nil
	default: // sigmoid
		betas := linspace32(-6, 6, steps)
		for i, b := range betas {
			betas[i] = float32(1/(1+exp(-b))*float32(end-start)) + float32(start)
		}
		return betas, nil
	}
}

// betasForAlphaBar makes betas of a function for the share of signal at t in [0, 1] (diffusers betas_for_alpha_bar).
func betasForAlphaBar(steps int, alphaBar func(float64) float64) []float32 {
	betas := make([]float32, steps)
	for i := range betas {
		t1, t2 := float64(i)/float64(steps), float64(i+1)/float64(steps)
		betas[i] = float32(min(1-alphaBar(t2)/alphaBar(t1), 0.999))
	}
	return betas
}

// cumprod is torch.cumprod(1-betas): the running product is float64, each entry rounded.
func cumprod(betas []float32) []float32 {
	out := make([]float32, len(betas))
	product := 1.0
	for i, b := range betas {
		product *= float64(1 - b)
		out[i] = float32(product)
	}
	return out
}

// rescaleZeroSNR makes the last timestep pure noise (Lin et al., "Common Diffusion Noise Schedules and Sample Steps
// are Flawed", algorithm 1; diffusers rescale_zero_terminal_snr).
func rescaleZeroSNR(betas []float32) []float32 {
	root := cumprod(betas)
	for i, a := range root {
		root[i] = sqrt(a)
	}
	first, last := root[0], root[len(root)-1]
	scale := first / (first - last)
	out := make([]float32, len(betas))
	previous := float32(1)
	for i, r := range root {
		r = float32((r - last) * scale)
		bar := float32(r * r)
		out[i] = 1 - bar/previous
		previous = bar
	}
	return out
}

// linspace32 is torch.linspace(start, end, n) in float32, bit by bit as its AVX2 kernel computes it: groups of eight
// from a fused base, the last elements one by one, the upper half counted from the end.
func linspace32(start, end float64, n int) []float32 {
	lo, hi := float32(start), float32(end)
	out := make([]float32, n)
	if n == 1 {
		out[0] = lo
		return out
	}
	step := (hi - lo) / float32(n-1)
	base := func(i int) float32 {
		if i < n/2 {
			return fma(step, float32(i), lo)
		}
		return fma(-step, float32(n-1-i), hi)
	}
	whole := n / 16 * 16
	for i := range whole {
		out[i] = base(i/8*8) + float32(step*float32(i%8))
	}
	for i := whole; i < n; i++ {
		out[i] = base(i)
	}
	return out
}
