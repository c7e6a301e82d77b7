package scheduler

import "math"

// lms is LMSDiscreteScheduler: linear multistep over up to four derivatives, with coefficients integrated over the
// step (k-diffusion sample_lms).
type lms struct {
	kDiffusion
}

const lmsOrder = 4

func newLMS(c Config) (sampler, error) {
	if or(c.UseKarrasSigmas, false) {
		c.SigmaMin, c.SigmaMax = nil, nil // this class alone does not look at them there
	}
	k, err := newKDiffusion(c, betaDefaults{start: 0.0001, end: 0.02, schedule: "linear"}, epsilon, velocity, sample)
	return &lms{k}, err
}

func (l *lms) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	timesteps, levels := l.levels(steps)
	sigmas := append(rounded32(levels), 0)
	m := &lmsMethod{kDiffusion: &l.kDiffusion, sigmas: sigmas[begin:]}
	for i := begin; i < len(timesteps); i++ {
		m.coefficients = append(m.coefficients, lmsCoefficients(sigmas, i))
	}
	return l.assemble(rounded32(timesteps), sigmas, sigmas, begin, m), nil
}

// lmsCoefficients integrates the Lagrange polynomials of the derivatives at step i, newest first, over that step. The
// reference integrates adaptively; two Gauss points are exact for these polynomials, of degree 3 at most.
func lmsCoefficients(sigmas []float32, i int) [lmsOrder]float32 {
	order := min(i+1, lmsOrder)
	lo, hi := float64(sigmas[i]), float64(sigmas[i+1])
	middle, half := (lo+hi)/2, (hi-lo)/2
	var out [lmsOrder]float32
	for j := range order {
		polynomial := func(tau float64) float64 {
			p := 1.0
			for k := range order {
				if k != j {
					p *= (tau - float64(sigmas[i-k])) / (float64(sigmas[i-j]) - float64(sigmas[i-k]))
				}
			}
			return p
		}
		node := half / math.Sqrt(3)
		out[j] = float32(half * (polynomial(middle-node) + polynomial(middle+node)))
	}
	return out
}

type lmsMethod struct {
	*kDiffusion
	sigmas       []float32
	coefficients [][lmsOrder]float32 // the order is the step's place in the whole run, also where its first steps are skipped
}

func (m *lmsMethod) start(own *memory) run {
	return &lmsRun{lmsMethod: m, derivatives: newHistory(lmsOrder, own)}
}

type lmsRun struct {
	*lmsMethod
	derivatives history
}

func (r *lmsRun) step(call int, x, output []float32, _ Noise) {
	sigma := r.sigmas[call]
	d := r.derivatives.push()
	r.at(sigma).clean(d, x, output)
	for i := range d {
		d[i] = (x[i] - d[i]) / sigma
	}
	c := r.coefficients[call]
	d0, d1, d2, d3 := r.derivatives[0], r.derivatives[1], r.derivatives[2], r.derivatives[3]
	switch call {
	case 0:
		for i := range x {
			x[i] += float32(c[0] * d0[i])
		}
	case 1:
		for i := range x {
			x[i] += float32(c[0]*d0[i]) + float32(c[1]*d1[i])
		}
	case 2:
		for i := range x {
			x[i] += float32(c[0]*d0[i]) + float32(c[1]*d1[i]) + float32(c[2]*d2[i])
		}
	default:
		for i := range x {
			x[i] += float32(c[0]*d0[i]) + float32(c[1]*d1[i]) + float32(c[2]*d2[i]) + float32(c[3]*d3[i])
		}
	}
}
