package scheduler

import "fmt"

// pndm is PNDMScheduler (Liu et al., "Pseudo Numerical Methods for Diffusion Models on Manifolds"). Stable Diffusion
// leaves out its Runge-Kutta warm-up (skip_prk_steps) and asks for the second timestep twice instead: PLMS.
type pndm struct {
	alphas
	spacing spacing
	warmUp  bool
}

const (
	pndmOrder  = 4
	warmUpCall = 3 * pndmOrder // calls of the warm-up: three steps of four
)

func newPNDM(c Config) (sampler, error) {
	d := betaDefaults{start: 0.0001, end: 0.02, schedule: "linear"}
	a, err := newAlphas(c, d, or(c.SetAlphaToOne, false), epsilon, velocity)
	if err != nil {
		return nil, err
	}
	s, err := newSpacing(c, "leading")
	if err != nil {
		return nil, err
	}
	return &pndm{a, s, !or(c.SkipPRKSteps, false)}, nil
}

func (p *pndm) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	base, err := p.index(p.spacing.whole(steps, p.trainSteps()))
	if err != nil {
		return nil, err
	}
	ratio := p.trainSteps() / steps
	timesteps := base
	if p.warmUp {
		if len(base) < pndmOrder {
			return nil, fmt.Errorf("%w: a model without skip_prk_steps takes at least %d steps", ErrSteps, pndmOrder)
		}
		timesteps = append(warmUpTimesteps(base, ratio/2), base[3:]...)
	} else if len(base) > 1 {
		timesteps = append([]int{base[0], base[1]}, base[1:]...)
	}
	m := &pndmMethod{pndm: p}
	for call, t := range timesteps[begin:] {
		// An image-to-image run counts its calls from its own start, as the reference does: its second call is taken
		// for the repeated one, and a warm-up for the first one.
		from, to := t, t-ratio
		switch {
		case p.warmUp && call < warmUpCall:
			from, to = timesteps[call/4*4], t
			if call%2 == 0 {
				to = t - ratio/2
			}
		case !p.warmUp && call == 1:
			from, to = t+ratio, t
		}
		if from >= p.trainSteps() {
			return nil, fmt.Errorf("%w: timestep %d is outside the model's %d", ErrSteps, from, p.trainSteps())
		}
		m.calls = append(m.calls, p.call(from, to))
	}
	return p.assemble(timesteps[begin:], m), nil
}

// warmUpTimesteps has for each of the first three steps its start, its middle twice, and its end.
func warmUpTimesteps(base []int, half int) []int {
	var ts []int
	for i := range 3 {
		middle := base[i+1] + half
		ts = append(ts, base[i], middle, middle, base[i+1])
	}
	return ts
}

// call works out formula 9 from one timestep to another.
func (p *pndm) call(from, to int) pndmCall {
	a, next := p.abar(from), p.abar(to)
	return pndmCall{
		model:  p.at(from),
		sample: sqrt(next / a),
		noise:  next - a,
		under:  float32(a*sqrt(1-next)) + sqrt(float32(float32(a*(1-a))*next)),
	}
}

type pndmCall struct {
	model                variancePreserving
	sample, noise, under float32 // the next sample is sample*x - noise*eps/under
}

type pndmMethod struct {
	*pndm
	calls []pndmCall
}

func (m *pndmMethod) start(own *memory) run {
	return &pndmRun{
		pndmMethod: m, outputs: newHistory(pndmOrder, own),
		origin: own.floats(), sum: own.floats(), mean: own.floats(),
	}
}

type pndmRun struct {
	*pndmMethod
	outputs history
	origin  []float32 // the sample that a step of several calls starts from
	sum     []float32 // the warm-up's weighted outputs
	mean    []float32 // what formula 9 takes as the model's output
}

func (r *pndmRun) step(call int, x, output []float32, _ Noise) {
	if r.warmUp && call < warmUpCall {
		r.rungeKutta(call, x, output)
		copy(x, r.origin)
	} else {
		r.multistep(call, x, output)
	}
	c := r.calls[call]
	if r.prediction == velocity {
		c.model.noised(r.mean, x, r.mean)
	}
	for i := range x {
		x[i] = float32(c.sample*x[i]) - float32(c.noise*r.mean[i])/c.under
	}
}

// rungeKutta weighs the outputs of a warm-up step (step_prk).
func (r *pndmRun) rungeKutta(call int, x, output []float32) {
	const sixth, third = float32(1. / 6), float32(1. / 3)
	switch call % 4 {
	case 0:
		copy(r.outputs.push(), output)
		copy(r.origin, x)
		for i, e := range output {
			r.sum[i] = sixth * e
		}
	case 1, 2:
		for i, e := range output {
			r.sum[i] += float32(third * e)
		}
	case 3:
		for i, e := range output {
			r.mean[i] = r.sum[i] + float32(sixth*e)
		}
		return
	}
	copy(r.mean, output)
}

// multistep weighs the last outputs (step_plms). The second call repeats the first step with the mean of both.
func (r *pndmRun) multistep(call int, x, output []float32) {
	if !r.warmUp && call == 1 {
		for i, e := range output {
			r.mean[i] = (e + r.outputs[0][i]) / 2
		}
		copy(x, r.origin)
		return
	}
	copy(r.outputs.push(), output)
	e0, e1, e2, e3 := r.outputs[0], r.outputs[1], r.outputs[2], r.outputs[3]
	known := pndmOrder
	if !r.warmUp {
		known = min(max(call, 1), pndmOrder)
	}
	switch known {
	case 1:
		copy(r.origin, x)
		copy(r.mean, output)
	case 2:
		for i := range r.mean {
			r.mean[i] = (float32(3*e0[i]) - e1[i]) / 2
		}
	case 3:
		for i := range r.mean {
			r.mean[i] = (float32(23*e0[i]) - float32(16*e1[i]) + float32(5*e2[i])) / 12
		}
	default:
		const weight = float32(1. / 24)
		for i := range r.mean {
			r.mean[i] = weight * (float32(55*e0[i]) - float32(59*e1[i]) + float32(37*e2[i]) - float32(9*e3[i]))
		}
	}
}
