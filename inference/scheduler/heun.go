package scheduler

import "fmt"

// heun is HeunDiscreteScheduler: an Euler step, corrected by the derivative at its end (Karras et al., algorithm 1).
// Every step but the last, which ends at 0, takes two calls.
type heun struct {
	kDiffusion
	limit limit
}

func newHeun(c Config) (sampler, error) {
	d := betaDefaults{start: 0.00085, end: 0.012, schedule: "linear", also: []string{"exp"}}
	k, err := newKDiffusion(c, d, epsilon, velocity, sample)
	if err != nil {
		return nil, err
	}
	c.Thresholding = nil
	l, err := newLimit(c, false)
	if err != nil {
		return nil, fmt.Errorf("clip sample: %w", err)
	}
	return &heun{k, l}, nil
}

func (h *heun) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 2)
	if err != nil {
		return nil, err
	}
	ts, levels := h.levels(steps)
	timesteps, sigmas := twice(rounded32(ts)), append(twice(rounded32(levels)), 0)
	return h.assemble(timesteps, sigmas, sigmas, begin, &heunMethod{heun: h, sigmas: sigmas[begin:]}), nil
}

// twice repeats all values but the first.
func twice(values []float32) []float32 {
	out := values[:1:1]
	for _, v := range values[1:] {
		out = append(out, v, v)
	}
	return out
}

type heunMethod struct {
	*heun
	sigmas []float32
}

func (m *heunMethod) start(own *memory) run {
	return &heunRun{
		heunMethod: m, clean: own.floats(), derivative: own.floats(), origin: own.floats(),
	}
}

type heunRun struct {
	*heunMethod
	clean              []float32
	derivative, origin []float32 // of the first call
}

func (r *heunRun) step(call int, x, output []float32, _ Noise) {
	first := call%2 == 0
	sigma := r.sigmas[call]
	r.at(sigma).clean(r.clean, x, output)
	r.limit.apply(r.clean, nil)
	if first {
		copy(r.origin, x)
		dt := r.sigmas[call+1] - sigma
		for i := range x {
			r.derivative[i] = (x[i] - r.clean[i]) / sigma
			x[i] += float32(r.derivative[i] * dt)
		}
		return
	}
	dt := sigma - r.sigmas[call-1]
	for i := range x {
		d := (r.derivative[i] + (x[i]-r.clean[i])/sigma) / 2
		x[i] = r.origin[i] + float32(d*dt)
	}
}
