package scheduler

// dpm2Ancestral is KDPM2AncestralDiscreteScheduler: DPM2 further down than the next sigma, and noise up to it
// (k-diffusion sample_dpm_2_ancestral).
type dpm2Ancestral struct {
	kDiffusion
}

func newDPM2Ancestral(c Config) (sampler, error) {
	k, err := newKDiffusion(c, betaDefaults{start: 0.00085, end: 0.012, schedule: "linear"}, epsilon, velocity)
	return &dpm2Ancestral{k}, err
}

func (d *dpm2Ancestral) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 2)
	if err != nil {
		return nil, err
	}
	ts, sigmas := d.dpm2Levels(steps)
	m := &dpm2AncestralMethod{dpm2Ancestral: d}
	middles := make([]float32, len(ts))
	for i := range middles {
		down, up := ancestral(sigmas[i], sigmas[i+1])
		middles[i] = exp(midpoint(log(sigmas[i]), log(down)))
		if i >= begin/2 {
			m.down, m.up = append(m.down, down), append(m.up, up)
		}
	}
	timesteps, levels, inputs := d.interleave(ts, sigmas, middles)
	m.inputs = inputs[begin:]
	return d.assemble(timesteps, levels, inputs, begin, m), nil
}

type dpm2AncestralMethod struct {
	*dpm2Ancestral
	inputs   []float32 // by call
	down, up []float32 // by step
}

func (m *dpm2AncestralMethod) start(own *memory) run {
	return &dpm2AncestralRun{dpm2AncestralMethod: m, scratch: own.floats(), origin: own.floats()}
}

type dpm2AncestralRun struct {
	*dpm2AncestralMethod
	scratch, origin []float32
}

func (r *dpm2AncestralRun) step(call int, x, output []float32, noise Noise) {
	sigma := r.inputs[call]
	r.at(sigma).clean(r.scratch, x, output)
	switch {
	case call+1 == len(r.inputs): // the last step goes straight to 0, without noise
		advance(x, x, r.scratch, sigma, -sigma)
	case call%2 == 0:
		copy(r.origin, x)
		advance(x, x, r.scratch, sigma, r.inputs[call+1]-sigma)
	default:
		leap(x, r.origin, r.scratch, sigma, r.down[call/2]-r.inputs[call-1])
		noise.Normal(r.scratch)
		addScaled(x, r.scratch, r.up[call/2])
	}
}
