package scheduler

import (
	"fmt"
	"slices"
)

// unipc is UniPCMultistepScheduler (Zhao et al., "UniPC: A Unified Predictor-Corrector Framework"): every call first
// corrects the last step with the new output, then predicts the next.
type unipc struct {
	logSNR
	spacing         spacing
	cleanData       bool
	bh1             bool
	lowerOrderFinal bool
	uncorrected     []int // steps that are left as predicted
}

func newUniPC(c Config) (sampler, error) {
	l, err := newLogSNR(c, nearZeroSNR)
	if err != nil {
		return nil, err
	}
	s, err := newSpacing(c, "linspace")
	if err != nil {
		return nil, err
	}
	u := &unipc{
		logSNR: l, spacing: s, cleanData: or(c.PredictX0, true),
		lowerOrderFinal: or(c.LowerOrderFinal, true), uncorrected: c.DisableCorrector,
	}
	switch kind := or(c.SolverType, "bh2"); kind {
	case "bh1":
		u.bh1 = true
	case "bh2", "midpoint", "heun", "logrho": // the last three come from other classes
	default:
		return nil, fmt.Errorf("%w: solver_type %q", ErrUnsupported, kind)
	}
	if !l.sigmaMin {
		// The last step is endless in lambda; only the first order of bh2 survives that.
		switch {
		case u.bh1:
			return nil, fmt.Errorf("%w: solver_type \"bh1\" gives NaN at a last sigma of 0; it needs final_sigmas_type \"sigma_min\"", ErrUnsupported)
		case !u.lowerOrderFinal && l.order > 1:
			return nil, fmt.Errorf("%w: lower_order_final false gives NaN at a last sigma of 0; it needs final_sigmas_type \"sigma_min\"", ErrUnsupported)
		}
	}
	return u, nil
}

func (u *unipc) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, ratios := u.levels(u.spacing.between(steps, u.trainSteps(), u.trainSteps()), steps, roundKarras)
	sigmas := u.finish(ratios)
	if u.sigmaMin && u.conversion.kind != noConversion {
		sigmas[len(sigmas)-1] = sigmas[len(sigmas)-2]
	}
	levels := levelsOf(sigmas)
	m := &unipcMethod{unipc: u}
	order := 0
	for i := begin; i < len(timesteps); i++ {
		c := unipcCall{level: levels[i]}
		if i > begin && !slices.Contains(u.uncorrected, i-1) {
			c.correct = u.step(levels, i-1, order, true)
		}
		order = min(u.order, i-begin+1)
		if u.lowerOrderFinal {
			order = min(order, len(timesteps)-i)
		}
		c.predict = u.step(levels, i, order, false)
		m.calls = append(m.calls, c)
	}
	return u.assemble(timesteps, sigmas, begin, m), nil
}

// unipcCall is a call: its level, the correction of the step before, of order 0 where there is none, and the next step.
type unipcCall struct {
	level            level
	correct, predict unipcStep
}

// unipcStep has the weights of a step: sample*x - output*m0 - difference*(sum of rho*D), where D are the divided
// differences of older outputs, (m-m0)/distance, and for a corrector the newest, of distance 1.
type unipcStep struct {
	order                      int
	sample, output, difference float32
	distance                   [2]float32
	rho                        [3]float32
}

// step works out the step from levels[i] to the next.
func (u *unipc) step(levels []level, i, order int, corrector bool) unipcStep {
	s, t := levels[i], levels[i+1]
	h := t.lambda - s.lambda
	distances := [3]float32{}
	for k := range order - 1 {
		distances[k] = (levels[i-k-1].lambda - s.lambda) / h
	}
	distances[order-1] = 1
	w := unipcStep{order: order, distance: [2]float32{distances[0], distances[1]}}

	hh, from, to, alpha := h, s.alpha, t.alpha, t.sigma
	if u.cleanData {
		hh, from, to, alpha = -h, s.sigma, t.sigma, t.alpha
	}
	phi := expm1(hh)
	b := phi
	if u.bh1 {
		b = hh
	}
	w.sample, w.output, w.difference = to/from, alpha*phi, alpha*b

	unknowns := order
	if !corrector {
		unknowns--
	}
	if corrector && order == 1 || !corrector && order == 2 {
		w.rho[0] = 0.5
		return w
	}
	w.rho = vandermonde(distances, exponentialMoments(hh, phi, b), unknowns)
	return w
}

// exponentialMoments are the right-hand sides of the order conditions.
func exponentialMoments(hh, phi, b float32) [3]float32 {
	var out [3]float32
	p, factorial := phi/hh-1, float32(1)
	for k := range out {
		out[k] = float32(p*factorial) / b
		factorial *= float32(k + 2)
		p = p/hh - 1/factorial
	}
	return out
}

// vandermonde solves sum over j of r[j]^i * x[j] = b[i] for n unknowns by elimination with pivots, in float32
// as torch.linalg.solve.
func vandermonde(r, b [3]float32, n int) [3]float32 {
	var m [3][4]float32
	for j := range n {
		power := float32(1)
		for i := range n {
			m[i][j] = power
			power *= r[j]
		}
		m[j][3] = b[j]
	}
	for k := range n {
		pivot := k
		for i := k + 1; i < n; i++ {
			if magnitude(m[i][k]) > magnitude(m[pivot][k]) {
				pivot = i
			}
		}
		m[k], m[pivot] = m[pivot], m[k]
		for i := k + 1; i < n; i++ {
			f := m[i][k] / m[k][k]
			for j := k; j < 4; j++ {
				m[i][j] -= float32(f * m[k][j])
			}
		}
	}
	var x [3]float32
	for i := n - 1; i >= 0; i-- {
		x[i] = m[i][3]
		for j := i + 1; j < n; j++ {
			x[i] -= float32(m[i][j] * x[j])
		}
		x[i] /= m[i][i]
	}
	return x
}

func magnitude(x float32) float32 { return max(x, -x) }
