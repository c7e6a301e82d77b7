package scheduler

import (
	"fmt"
	"slices"
)

// ddpm is DDPMScheduler (Ho et al., "Denoising Diffusion Probabilistic Models", formula 7).
type ddpm struct {
	alphas
	spacing  spacing
	limit    limit
	variance string
}

func newDDPM(c Config) (sampler, error) {
	d := betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", also: []string{"laplace", "sigmoid"}, zeroSNR: exactZeroSNR}
	a, err := newAlphas(c, d, true, epsilon, velocity, sample)
	if err != nil {
		return nil, err
	}
	s, err := newSpacing(c, "leading")
	if err != nil {
		return nil, err
	}
	l, err := newLimit(c, true)
	if err != nil {
		return nil, err
	}
	variance := or(c.VarianceType, "fixed_small")
	if !slices.Contains([]string{"fixed_small", "fixed_small_log", "fixed_large"}, variance) {
		return nil, fmt.Errorf("%w: variance_type %q", ErrUnsupported, variance)
	}
	return &ddpm{a, s, l, variance}, nil
}

func (d *ddpm) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, err := d.index(d.spacing.whole(steps, d.trainSteps()))
	if err != nil {
		return nil, err
	}
	timesteps = timesteps[begin:]
	m := &ddpmMethod{ddpm: d}
	for i, t := range timesteps {
		previous := -1
		if i+1 < len(timesteps) {
			previous = timesteps[i+1]
		}
		m.calls = append(m.calls, d.call(t, previous))
	}
	return d.assemble(timesteps, m), nil
}

func (d *ddpm) call(t, previous int) ddpmCall {
	abar, abarPrevious := d.abar(t), d.abar(previous)
	alpha := abar / abarPrevious
	beta := 1 - alpha
	c := ddpmCall{
		model:  d.at(t),
		clean:  float32(sqrt(abarPrevious)*beta) / (1 - abar),
		sample: float32(sqrt(alpha)*(1-abarPrevious)) / (1 - abar),
		draws:  t > 0,
	}
	variance := max(float32((1-abarPrevious)/(1-abar))*beta, 1e-20)
	switch d.variance {
	case "fixed_small":
		c.random = sqrt(variance)
	case "fixed_small_log":
		c.random = exp(0.5 * log(variance))
	case "fixed_large":
		c.random = sqrt(beta)
	}
	return c
}

// ddpmCall has the weights of the next sample: of the clean prediction, of the sample, of fresh noise.
type ddpmCall struct {
	model                 variancePreserving
	clean, sample, random float32
	draws                 bool
}

type ddpmMethod struct {
	*ddpm
	calls []ddpmCall
}

func (m *ddpmMethod) start(own *memory) run {
	return &ddpmRun{ddpmMethod: m, buffer: own.floats(), scratch: m.limit.scratch(own)}
}

type ddpmRun struct {
	*ddpmMethod
	buffer, scratch []float32
}

func (r *ddpmRun) step(call int, x, output []float32, noise Noise) {
	c := r.calls[call]
	c.model.clean(r.buffer, x, output)
	r.limit.apply(r.buffer, r.scratch)
	for i := range x {
		x[i] = float32(c.clean*r.buffer[i]) + float32(c.sample*x[i])
	}
	if c.draws {
		noise.Normal(r.buffer)
		addScaled(x, r.buffer, c.random)
	}
}
