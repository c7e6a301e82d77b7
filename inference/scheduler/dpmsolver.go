package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// dpmSolver is what the multistep and the singlestep DPM solver share (Lu et al., "DPM-Solver" and "DPM-Solver++").
type dpmSolver struct {
	logSNR
	cleanData  bool // "++": the integrand is the clean prediction, else the predicted noise
	stochastic bool
	heun       bool // the second order's variant; else midpoint
	// clipped is how many of the training's timesteps are left out at the noisy end (lambda_min_clipped).
	clipped int
}

func newDPMSolver(c Config, zero zeroSNR, algorithms ...string) (dpmSolver, error) {
	l, err := newLogSNR(c, zero)
	if err != nil {
		return dpmSolver{}, err
	}
	d := dpmSolver{logSNR: l}
	algorithm := or(c.AlgorithmType, "dpmsolver++")
	if algorithm == "deis" {
		algorithm = "dpmsolver++" // a configuration of DEISMultistepScheduler
	}
	if !slices.Contains(algorithms, algorithm) {
		return d, fmt.Errorf("%w: algorithm_type %q", ErrUnsupported, algorithm)
	}
	d.cleanData = algorithm == "dpmsolver++" || algorithm == sdeDPMSolverPlus
	d.stochastic = algorithm == "sde-dpmsolver" || algorithm == sdeDPMSolverPlus
	if !d.cleanData && !d.sigmaMin {
		return d, fmt.Errorf("%w: algorithm_type %q needs final_sigmas_type \"sigma_min\"", ErrUnsupported, algorithm)
	}
	switch kind := or(c.SolverType, "midpoint"); kind {
	case "heun":
		d.heun = true
	case "midpoint", "logrho", "bh1", "bh2": // the last three come from other classes
	default:
		return d, fmt.Errorf("%w: solver_type %q", ErrUnsupported, kind)
	}
	switch or(c.VarianceType, "") {
	case "learned", "learned_range":
		return d, fmt.Errorf("%w: variance_type %q", ErrUnsupported, *c.VarianceType)
	}
	lowest := float64(or(c.LambdaMinClipped, infinite(math.Inf(-1))))
	for _, abar := range d.alphasCumprod {
		if lambda := log(sqrt(abar)) - log(sqrt(1-abar)); float64(lambda) < lowest {
			d.clipped++
		}
	}
	if d.clipped == d.trainSteps() {
		return d, fmt.Errorf("%w: lambda_min_clipped %v leaves no timestep", ErrUnsupported, lowest)
	}
	return d, nil
}

// convert writes the integrand, the clean prediction or the predicted noise, into dst.
func (d *dpmSolver) convert(dst, x, output, scratch []float32, v level) {
	model := d.at(v)
	if d.cleanData {
		model.clean(dst, x, output)
		d.limit.apply(dst, scratch)
		return
	}
	model.noised(dst, x, output)
	if d.limit == (limit{}) {
		return
	}
	for i, e := range dst {
		dst[i] = (x[i] - float32(v.sigma*e)) / v.alpha
	}
	d.limit.apply(dst, scratch)
	for i, clean := range dst {
		dst[i] = (x[i] - float32(v.alpha*clean)) / v.sigma
	}
}

// dpmWeights are those of a step: the next sample is sample*x + d0*D0 + d1*D1 + d2*D2 + random*noise, where D0 is a
// value of the integrand, D1 and D2 its divided differences.
type dpmWeights struct{ sample, d0, d1, d2, random float32 }

// weights works out a step of an order from level s to level t. The terms are the integrals of the exponential that
// diffusers writes out for each algorithm.
func (d *dpmSolver) weights(order int, s, t level) dpmWeights {
	h := t.lambda - s.lambda
	exact := d.heun || order == 3 // the second term's integral; midpoint takes half of the first
	var w dpmWeights
	switch {
	case d.cleanData && !d.stochastic:
		e := exp(-h) - 1
		w = dpmWeights{sample: t.sigma / s.sigma, d0: -float32(t.alpha * e), d1: -0.5 * float32(t.alpha*e)}
		if exact {
			w.d1 = t.alpha * (e/h + 1)
		}
		w.d2 = -t.alpha * ((e+h)/float32(h*h) - 0.5)
	case d.cleanData:
		e, h2 := 1-exp(-2*h), 2*h
		w = dpmWeights{sample: float32(t.sigma/s.sigma) * exp(-h), d0: t.alpha * e, d1: 0.5 * float32(t.alpha*e)}
		if exact {
			w.d1 = t.alpha * (1 - e/h2)
		}
		w.d2 = t.alpha * ((e-h2)/float32(h2*h2) - 0.5)
		w.random = t.sigma * sqrt(e)
	case !d.stochastic:
		e := exp(h) - 1
		w = dpmWeights{sample: t.alpha / s.alpha, d0: -float32(t.sigma * e), d1: -0.5 * float32(t.sigma*e)}
		if exact {
			w.d1 = -t.sigma * (e/h - 1)
		}
		w.d2 = -t.sigma * ((e-h)/float32(h*h) - 0.5)
	default:
		e := exp(h) - 1
		w = dpmWeights{sample: t.alpha / s.alpha, d0: -2 * float32(t.sigma*e), d1: -float32(t.sigma * e)}
		if exact {
			w.d1 = -2 * float32(t.sigma*(e/h-1))
		}
		w.random = t.sigma * sqrt(exp(2*h)-1)
	}
	return w
}

// first writes a step of the first order from x into dst.
func (w dpmWeights) first(dst, x, d0 []float32) {
	for i := range dst {
		dst[i] = float32(w.sample*x[i]) + float32(w.d0*d0[i])
	}
}

// second writes a step of the second order from x into dst: D1 = (m0-m1)*slope.
func (w dpmWeights) second(dst, x, d0, m0, m1 []float32, slope float32) {
	for i := range dst {
		d1 := float32(slope * (m0[i] - m1[i]))
		dst[i] = float32(w.sample*x[i]) + float32(w.d0*d0[i]) + float32(w.d1*d1)
	}
}

// dpmBuffers is what a run of either solver holds.
type dpmBuffers struct {
	integrand      history
	noise, scratch []float32
}

func (d *dpmSolver) buffers(own *memory) dpmBuffers {
	b := dpmBuffers{integrand: newHistory(d.order, own), scratch: d.limit.scratch(own)}
	if d.stochastic {
		b.noise = own.floats()
	}
	return b
}

// randomise adds the noise of a step, if the algorithm has it.
func (b *dpmBuffers) randomise(x []float32, noise Noise, scale float32) {
	if b.noise != nil {
		noise.Normal(b.noise)
		addScaled(x, b.noise, scale)
	}
}
