package scheduler

import "math"

// dpmSinglestep is DPMSolverSinglestepScheduler, DPM++ 2S: groups of calls of rising order, each starting again from
// the group's first sample.
type dpmSinglestep struct {
	dpmSolver
	lowerOrderFinal bool
}

func newDPMSinglestep(c Config) (sampler, error) {
	d, err := newDPMSolver(c, ignoreZeroSNR, "dpmsolver++", "dpmsolver", sdeDPMSolverPlus)
	if err != nil {
		return nil, err
	}
	return &dpmSinglestep{d, or(c.LowerOrderFinal, false)}, nil
}

func (d *dpmSinglestep) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	spaced := spacing{kind: "linspace"}.between(steps, d.trainSteps()-d.clipped, d.trainSteps())
	timesteps, ratios := d.levels(spaced, steps, roundKarras)
	sigmas := d.finish(ratios)
	levels := levelsOf(sigmas)
	m := &dpmSinglestepMethod{dpmSinglestep: d}
	orders := d.orders(steps)
	for i := begin; i < steps; i++ {
		m.calls = append(m.calls, d.call(levels, i, min(orders[i], i-begin+1)))
	}
	return d.assemble(timesteps, sigmas, begin, m), nil
}

// roundKarras rounds the timesteps of Karras sigmas and cuts off the fraction of others.
func roundKarras(kind conversionKind, t float64) float64 {
	if kind == karrasSigmas {
		return math.RoundToEven(t)
	}
	return t
}

// orders gives the order of every step (get_order_list): groups of 1, 2, 3 up to the solver's order.
func (d *dpmSinglestep) orders(steps int) []int {
	orders := make([]int, steps)
	for i := range orders {
		orders[i] = i%d.order + 1
	}
	// The last group ends with a first order if the run ends at 0, or is asked to.
	if !d.sigmaMin || d.lowerOrderFinal && steps%d.order == 0 {
		orders[steps-1] = 1
	}
	return orders
}

func (d *dpmSinglestep) call(levels []level, i, order int) dpmSinglestepCall {
	t, from := levels[i+1], levels[i-order+1]
	h := t.lambda - from.lambda
	c := dpmSinglestepCall{level: levels[i], order: order, weights: d.weights(order, from, t)}
	if order > 1 {
		c.ratio0 = (levels[i].lambda - from.lambda) / h
	}
	if order > 2 {
		c.ratio1 = (levels[i-1].lambda - from.lambda) / h
	}
	return c
}

// dpmSinglestepCall has a step's weights and the distances of its outputs from the group's first, in steps.
type dpmSinglestepCall struct {
	level          level
	order          int
	weights        dpmWeights
	ratio0, ratio1 float32
}

type dpmSinglestepMethod struct {
	*dpmSinglestep
	calls []dpmSinglestepCall
}

func (m *dpmSinglestepMethod) start(own *memory) run {
	return &dpmSinglestepRun{m, m.buffers(own), own.floats()}
}

type dpmSinglestepRun struct {
	*dpmSinglestepMethod
	dpmBuffers
	origin []float32 // the group's first sample
}

func (r *dpmSinglestepRun) step(call int, x, output []float32, noise Noise) {
	c := &r.calls[call]
	w := c.weights
	m0 := r.integrand.push()
	r.convert(m0, x, output, r.scratch, c.level)
	switch c.order {
	case 1:
		copy(r.origin, x)
		w.first(x, x, m0)
	case 2:
		m1 := r.integrand[1]
		w.second(x, r.origin, m1, m0, m1, 1/c.ratio0)
	default:
		m1, m2 := r.integrand[1], r.integrand[2]
		slope0, slope1, apart := 1/c.ratio0, 1/c.ratio1, c.ratio0-c.ratio1
		for i := range x {
			d1 := float32(slope0 * (m0[i] - m2[i]))
			x[i] = float32(w.sample*r.origin[i]) + float32(w.d0*m2[i])
			if !r.heun {
				x[i] += float32(w.d1 * d1)
				continue
			}
			early := float32(slope1 * (m1[i] - m2[i]))
			tilt := (float32(c.ratio0*early) - float32(c.ratio1*d1)) / apart
			curve := 2 * (d1 - early) / apart
			x[i] += float32(w.d1 * tilt)
			x[i] += float32(w.d2 * curve)
		}
	}
	r.randomise(x, noise, w.random)
}
