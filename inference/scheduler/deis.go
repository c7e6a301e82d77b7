package scheduler

import (
	"fmt"
	"slices"
)

// deis is DEISMultistepScheduler (Zhang and Chen, "Fast Sampling of Diffusion Models with Exponential Integrator", the
// log-rho variant): a multistep method in rho = sigma/alpha with polynomials of ln(rho). It never ends at 0.
type deis struct {
	logSNR
	spacing         spacing
	lowerOrderFinal bool
}

func newDEIS(c Config) (sampler, error) {
	c.FinalSigmasType = nil // other classes' option
	l, err := newLogSNR(c, ignoreZeroSNR)
	if err != nil {
		return nil, err
	}
	l.sigmaMin = true
	if a := or(c.AlgorithmType, "deis"); !slices.Contains([]string{"deis", "dpmsolver", "dpmsolver++"}, a) {
		return nil, fmt.Errorf("%w: algorithm_type %q", ErrUnsupported, a)
	}
	if s := or(c.SolverType, "logrho"); !slices.Contains([]string{"logrho", "midpoint", "heun", "bh1", "bh2"}, s) {
		return nil, fmt.Errorf("%w: solver_type %q", ErrUnsupported, s)
	}
	s, err := newSpacing(c, "linspace")
	if err != nil {
		return nil, err
	}
	return &deis{l, s, or(c.LowerOrderFinal, true)}, nil
}

func (d *deis) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, ratios := d.levels(d.spacing.between(steps, d.trainSteps(), d.trainSteps()), steps, roundKarras)
	sigmas := d.finish(ratios)
	if d.conversion.kind != noConversion {
		sigmas[len(sigmas)-1] = sigmas[len(sigmas)-2]
	}
	levels := levelsOf(sigmas)
	m := &deisMethod{deis: d}
	for i := begin; i < len(timesteps); i++ {
		m.calls = append(m.calls, d.call(levels, i, d.orderAt(i, i-begin, len(timesteps))))
	}
	return d.assemble(timesteps, sigmas, begin, m), nil
}

// orderAt is the order of step i of n, with outputs of known steps before it.
func (d *deis) orderAt(i, known, n int) int {
	order := min(d.order, known+1)
	if d.lowerOrderFinal && n < 15 {
		order = min(order, n-i)
	}
	return order
}

func (d *deis) call(levels []level, i, order int) deisCall {
	s, t := levels[i], levels[i+1]
	c := deisCall{level: s, order: order}
	rho := func(v level) float32 { return v.sigma / v.alpha }
	switch order {
	case 1:
		c.sample = t.alpha / s.alpha
		c.noise[0] = t.sigma * (exp(t.lambda-s.lambda) - 1)
	case 2:
		to, r0, r1 := rho(t), rho(s), rho(levels[i-1])
		c.sample = t.alpha
		c.noise[0] = deisLinear(to, r0, r1) - deisLinear(r0, r0, r1)
		c.noise[1] = deisLinear(to, r1, r0) - deisLinear(r0, r1, r0)
	default:
		to, r0, r1, r2 := rho(t), rho(s), rho(levels[i-1]), rho(levels[i-2])
		c.sample = t.alpha
		c.noise[0] = deisQuadratic(to, r0, r1, r2) - deisQuadratic(r0, r0, r1, r2)
		c.noise[1] = deisQuadratic(to, r1, r2, r0) - deisQuadratic(r0, r1, r2, r0)
		c.noise[2] = deisQuadratic(to, r2, r0, r1) - deisQuadratic(r0, r2, r0, r1)
	}
	return c
}

// deisLinear is the integral of (ln t - ln c) / (ln b - ln c).
func deisLinear(t, b, c float32) float32 {
	return float32(t*(-numpyLog(c)+numpyLog(t)-1)) / (numpyLog(b) - numpyLog(c))
}

// deisQuadratic is the integral of (ln t - ln c)(ln t - ln d) / ((ln b - ln c)(ln b - ln d)).
func deisQuadratic(t, b, c, d float32) float32 {
	lt, lb, lc, ld := numpyLog(t), numpyLog(b), numpyLog(c), numpyLog(d)
	numerator := t * (float32(lc*(ld-lt+1)) - float32(ld*lt) + ld + float32(lt*lt) - float32(2*lt) + 2)
	return numerator / float32((lb-lc)*(lb-ld))
}

// deisCall has the weights of a step; those of the first order multiply the sample and the newest noise, those of the
// others what is x/alpha there.
type deisCall struct {
	level  level
	order  int
	sample float32
	noise  [3]float32
}

type deisMethod struct {
	*deis
	calls []deisCall
}

func (m *deisMethod) start(own *memory) run {
	return &deisRun{deisMethod: m, noised: newHistory(m.order, own), scratch: m.limit.scratch(own)}
}

type deisRun struct {
	*deisMethod
	noised  history
	scratch []float32
}

func (r *deisRun) step(call int, x, output []float32, _ Noise) {
	c := &r.calls[call]
	v := c.level
	m0 := r.noised.push()
	r.at(v).clean(m0, x, output)
	r.limit.apply(m0, r.scratch)
	for i := range m0 {
		m0[i] = (x[i] - float32(v.alpha*m0[i])) / v.sigma
	}
	switch c.order {
	case 1:
		for i := range x {
			x[i] = float32(c.sample*x[i]) - float32(c.noise[0]*m0[i])
		}
	case 2:
		m1 := r.noised[1]
		for i := range x {
			x[i] = c.sample * (x[i]/v.alpha + float32(c.noise[0]*m0[i]) + float32(c.noise[1]*m1[i]))
		}
	default:
		m1, m2 := r.noised[1], r.noised[2]
		for i := range x {
			x[i] = c.sample * (x[i]/v.alpha + float32(c.noise[0]*m0[i]) + float32(c.noise[1]*m1[i]) + float32(c.noise[2]*m2[i]))
		}
	}
}
