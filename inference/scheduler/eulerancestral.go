package scheduler

// eulerAncestral is EulerAncestralDiscreteScheduler: an Euler step further down than the next sigma, and noise up to
// it (k-diffusion sample_euler_ancestral). It has no Karras sigmas.
type eulerAncestral struct {
	kDiffusion
}

func newEulerAncestral(c Config) (sampler, error) {
	c.UseKarrasSigmas, c.UseExponentialSigmas, c.UseBetaSigmas = nil, nil, nil
	k, err := newKDiffusion(c, betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", zeroSNR: nearZeroSNR}, epsilon, velocity)
	return &eulerAncestral{k}, err
}

func (e *eulerAncestral) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, levels := e.levels(steps)
	sigmas := append(rounded32(levels), 0)
	m := &eulerAncestralMethod{kDiffusion: &e.kDiffusion, sigmas: sigmas[begin:]}
	return e.assemble(rounded32(timesteps), sigmas, sigmas, begin, m), nil
}

type eulerAncestralMethod struct {
	*kDiffusion
	sigmas []float32
}

func (m *eulerAncestralMethod) start(own *memory) run {
	return &eulerAncestralRun{eulerAncestralMethod: m, scratch: own.floats()}
}

type eulerAncestralRun struct {
	*eulerAncestralMethod
	scratch []float32
}

func (r *eulerAncestralRun) step(call int, x, output []float32, noise Noise) {
	sigma := r.sigmas[call]
	down, up := ancestral(sigma, r.sigmas[call+1])
	r.at(sigma).clean(r.scratch, x, output)
	advance(x, x, r.scratch, sigma, down-sigma)
	noise.Normal(r.scratch) // drawn in the last step too, where it counts nothing
	addScaled(x, r.scratch, up)
}
