package scheduler

import (
	"fmt"
	"math"
)

// dpmMultistep is DPMSolverMultistepScheduler: DPM++ 2M, with noise DPM++ 2M SDE.
type dpmMultistep struct {
	dpmSolver
	spacing         spacing
	lowerOrderFinal bool
	eulerAtFinal    bool
}

func newDPMMultistep(c Config) (sampler, error) {
	d, err := newDPMSolver(c, nearZeroSNR, "dpmsolver++", "dpmsolver", sdeDPMSolverPlus, "sde-dpmsolver")
	if err != nil {
		return nil, err
	}
	if d.order == 3 && d.stochastic && !d.cleanData {
		return nil, fmt.Errorf("%w: algorithm_type \"sde-dpmsolver\" has no third order", ErrUnsupported)
	}
	if or(c.UseLuLambdas, false) && d.conversion.kind != karrasSigmas {
		d.luLambdas, d.conversion.kind = true, noConversion
	}
	s, err := newSpacing(c, "linspace")
	if err != nil {
		return nil, err
	}
	return &dpmMultistep{d, s, or(c.LowerOrderFinal, true), or(c.EulerAtFinal, false)}, nil
}

func (d *dpmMultistep) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	spaced := d.spacing.between(steps, d.trainSteps()-d.clipped, d.trainSteps())
	timesteps, ratios := d.levels(spaced, steps, func(kind conversionKind, t float64) float64 {
		if (kind == karrasSigmas || kind == noConversion) && !d.cosine {
			return math.RoundToEven(t)
		}
		return t
	})
	sigmas := d.finish(ratios)
	levels := levelsOf(sigmas)
	m := &dpmMultistepMethod{dpmMultistep: d}
	for i := begin; i < len(timesteps); i++ {
		m.calls = append(m.calls, d.call(levels, i, d.orderAt(i, i-begin, len(timesteps))))
	}
	return d.assemble(timesteps, sigmas, begin, m), nil
}

// orderAt is the order of step i of n, with outputs of known steps before it: lower at the start, and at the end of
// short runs.
func (d *dpmMultistep) orderAt(i, known, n int) int {
	short := d.lowerOrderFinal && n < 15
	order := min(d.order, known+1)
	switch {
	case i == n-1 && (d.eulerAtFinal || short || !d.sigmaMin):
		return 1
	case i == n-2 && short:
		return min(order, 2)
	}
	return order
}

func (d *dpmMultistep) call(levels []level, i, order int) dpmMultistepCall {
	s, t := levels[i], levels[i+1]
	h := t.lambda - s.lambda
	c := dpmMultistepCall{level: s, order: order, weights: d.weights(order, s, t)}
	if order > 1 {
		r0 := (s.lambda - levels[i-1].lambda) / h
		c.slope0 = 1 / r0
		if order > 2 {
			r1 := (levels[i-1].lambda - levels[i-2].lambda) / h
			c.slope1, c.turn, c.curve = 1/r1, r0/(r0+r1), 1/(r0+r1)
		}
	}
	return c
}

// dpmMultistepCall has a step's weights and, for the divided differences, the inverse distances in lambda.
type dpmMultistepCall struct {
	level                       level
	order                       int
	weights                     dpmWeights
	slope0, slope1, turn, curve float32
}

type dpmMultistepMethod struct {
	*dpmMultistep
	calls []dpmMultistepCall
}

func (m *dpmMultistepMethod) start(own *memory) run {
	return &dpmMultistepRun{m, m.buffers(own)}
}

type dpmMultistepRun struct {
	*dpmMultistepMethod
	dpmBuffers
}

func (r *dpmMultistepRun) step(call int, x, output []float32, noise Noise) {
	c := &r.calls[call]
	w := c.weights
	m0 := r.integrand.push()
	r.convert(m0, x, output, r.scratch, c.level)
	switch c.order {
	case 1:
		w.first(x, x, m0)
	case 2:
		w.second(x, x, m0, m0, r.integrand[1], c.slope0)
	default:
		m1, m2 := r.integrand[1], r.integrand[2]
		for i := range x {
			late := float32(c.slope0 * (m0[i] - m1[i]))
			early := float32(c.slope1 * (m1[i] - m2[i]))
			d1 := late + float32(c.turn*(late-early))
			d2 := float32(c.curve * (late - early))
			x[i] = float32(w.sample*x[i]) + float32(w.d0*m0[i]) + float32(w.d1*d1) + float32(w.d2*d2)
		}
	}
	r.randomise(x, noise, w.random)
}
