package scheduler

// dpm2 is KDPM2DiscreteScheduler: a step by the derivative at its middle, in the logarithm of sigma (k-diffusion
// sample_dpm_2; Karras et al., algorithm 2). Every step but the last, which ends at 0, takes two calls.
type dpm2 struct {
	kDiffusion
}

func newDPM2(c Config) (sampler, error) {
	k, err := newKDiffusion(c, betaDefaults{start: 0.00085, end: 0.012, schedule: "linear"}, epsilon, velocity)
	return &dpm2{k}, err
}

func (d *dpm2) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 2)
	if err != nil {
		return nil, err
	}
	ts, sigmas := d.dpm2Levels(steps)
	middles := make([]float32, len(ts)) // of the step that begins at the same place
	for i := range middles {
		middles[i] = exp(midpoint(log(sigmas[i+1]), log(sigmas[i])))
	}
	timesteps, levels, inputs := d.interleave(ts, sigmas, middles)
	m := &dpm2Method{dpm2: d, sigmas: levels[begin:], inputs: inputs[begin:]}
	return d.assemble(timesteps, levels, inputs, begin, m), nil
}

// dpm2Levels is levels in float32 and with the last, 0; Karras timesteps are whole here.
func (k *kDiffusion) dpm2Levels(steps int) (timesteps, sigmas []float32) {
	ts, levels := k.levels(steps)
	timesteps, sigmas = rounded32(ts), append(rounded32(levels), 0)
	if k.conversion.kind == karrasSigmas {
		for i, t := range timesteps {
			timesteps[i] = roundToEven(t)
		}
	}
	return timesteps, sigmas
}

// interleave lays out the calls: each sigma, the middle of its step, the next sigma. sigmas has the end as well. By
// call it gives the timestep, the level that the sample has in the reference's books, and the level at which the model
// is asked.
func (k *kDiffusion) interleave(ts, sigmas, middles []float32) (timesteps, levels, inputs []float32) {
	last := len(ts) - 1
	for i := range last {
		timesteps = append(timesteps, ts[i], float32(timestepOf(float64(middles[i]), k.logSigmas)))
		levels = append(levels, sigmas[i], sigmas[i+1])
		inputs = append(inputs, sigmas[i], middles[i])
	}
	return append(timesteps, ts[last]), append(levels, sigmas[last], 0), append(inputs, sigmas[last])
}

type dpm2Method struct {
	*dpm2
	sigmas, inputs []float32
}

func (m *dpm2Method) start(own *memory) run {
	return &dpm2Run{dpm2Method: m, clean: own.floats(), origin: own.floats()}
}

type dpm2Run struct {
	*dpm2Method
	clean, origin []float32
}

func (r *dpm2Run) step(call int, x, output []float32, _ Noise) {
	sigma := r.inputs[call]
	r.at(sigma).clean(r.clean, x, output)
	switch {
	case call+1 == len(r.inputs): // the last step goes straight to 0
		advance(x, x, r.clean, sigma, -sigma)
	case call%2 == 0:
		copy(r.origin, x)
		advance(x, x, r.clean, sigma, r.inputs[call+1]-sigma)
	default:
		leap(x, r.origin, r.clean, sigma, r.sigmas[call]-r.inputs[call-1])
	}
}

// leap moves x from origin by dt along the derivative at x.
func leap(x, origin, clean []float32, sigma, dt float32) {
	for i := range x {
		x[i] = origin[i] + float32((x[i]-clean[i])/sigma*dt)
	}
}
