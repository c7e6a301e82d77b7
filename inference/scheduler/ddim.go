package scheduler

import "fmt"

// ddim is DDIMScheduler (Song et al., "Denoising Diffusion Implicit Models", formula 12).
type ddim struct {
	alphas
	spacing spacing
	limit   limit
	eta     float32
}

func newDDIM(c Config) (sampler, error) {
	d := betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", zeroSNR: exactZeroSNR}
	a, err := newAlphas(c, d, or(c.SetAlphaToOne, true), epsilon, velocity, sample)
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
	eta := or(c.Eta, 0)
	if !(eta >= 0 && eta <= 1) {
		return nil, fmt.Errorf("%w: eta %v is not between 0 and 1", ErrUnsupported, eta)
	}
	return &ddim{a, s, l, float32(eta)}, nil
}

func (d *ddim) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, err := d.index(d.spacing.whole(steps, d.trainSteps()))
	if err != nil {
		return nil, err
	}
	m := &ddimMethod{ddim: d}
	for _, t := range timesteps[begin:] {
		// The way is always that of the leading spacing, whichever the configuration has.
		m.calls = append(m.calls, d.call(t, t-d.trainSteps()/steps))
	}
	return d.assemble(timesteps[begin:], m), nil
}

func (d *ddim) call(t, previous int) ddimCall {
	abar, abarPrevious := d.abar(t), d.abar(previous)
	c := ddimCall{model: d.at(t), signal: sqrt(abarPrevious)}
	if d.eta > 0 {
		variance := float32((1-abarPrevious)/(1-abar)) * (1 - abar/abarPrevious)
		c.random = d.eta * sqrt(variance)
	}
	c.direction = sqrt(1 - abarPrevious - float32(c.random*c.random))
	return c
}

// ddimCall has the weights of the next sample: of the clean prediction, of the predicted noise, of fresh noise.
type ddimCall struct {
	model                     variancePreserving
	signal, direction, random float32
}

type ddimMethod struct {
	*ddim
	calls []ddimCall
}

func (m *ddimMethod) start(own *memory) run {
	return &ddimRun{
		ddimMethod: m, clean: own.floats(), noised: own.floats(), scratch: m.limit.scratch(own),
	}
}

type ddimRun struct {
	*ddimMethod
	clean, noised, scratch []float32
}

func (r *ddimRun) step(call int, x, output []float32, noise Noise) {
	c := r.calls[call]
	c.model.clean(r.clean, x, output)
	c.model.noised(r.noised, x, output)
	r.limit.apply(r.clean, r.scratch)
	for i := range x {
		x[i] = float32(c.signal*r.clean[i]) + float32(c.direction*r.noised[i])
	}
	if r.eta > 0 {
		noise.Normal(r.noised)
		addScaled(x, r.noised, c.random)
	}
}
