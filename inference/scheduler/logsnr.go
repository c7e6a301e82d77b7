package scheduler

import (
	"fmt"
	"math"
)

// logSNR is what the exponential integrators share (the DPM solvers, UniPC, DEIS): samples x = alpha*x0 + sigma*noise,
// and steps in lambda = ln(alpha/sigma). Their schedules are kept as the ratio sigma/alpha.
type logSNR struct {
	training
	logSigmas  []float32
	conversion conversion
	luLambdas  bool
	cosine     bool // squaredcos_cap_v2: converted timesteps keep their fraction until they are cut off
	sigmaMin   bool // the run ends at the lowest sigma, not at 0
	prediction prediction
	limit      limit
	order      int
}

func newLogSNR(c Config, zero zeroSNR) (logSNR, error) {
	var (
		l   logSNR
		err error
	)
	if or(c.UseFlowSigmas, false) {
		return l, fmt.Errorf("%w: use_flow_sigmas", ErrUnsupported)
	}
	if l.training, err = newTraining(c, betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", zeroSNR: zero}); err != nil {
		return l, err
	}
	l.logSigmas = logs(l.training.sigmas)
	l.cosine = or(c.BetaSchedule, "") == "squaredcos_cap_v2"
	if l.conversion, err = newConversion(c); err != nil {
		return l, err
	}
	if l.sigmaMin, err = finalSigmaMin(c); err != nil {
		return l, err
	}
	if l.prediction, err = newPrediction(c, epsilon, velocity, sample); err != nil {
		return l, err
	}
	c.ClipSample = nil
	if l.limit, err = newLimit(c, false); err != nil {
		return l, err
	}
	if l.order = or(c.SolverOrder, 2); l.order < 1 || l.order > 3 {
		return l, fmt.Errorf("%w: solver_order %d is not 1, 2 or 3", ErrUnsupported, l.order)
	}
	return l, nil
}

// rounding is what a class makes of the timesteps that belong to converted sigmas, before they are cut to integers.
type rounding func(kind conversionKind, t float64) float64

// levels gives the timesteps of a run, whole numbers, and their sigmas in float64, without the last.
func (l *logSNR) levels(spaced []float64, n int, round rounding) (timesteps, sigmas []float64) {
	first, last := l.training.sigmas[l.trainSteps()-1], l.training.sigmas[0]
	switch {
	case l.conversion.kind != noConversion:
		// The whole range of the training, whatever the spacing.
		sigmas = l.conversion.sigmas(float64(first), float64(last), n)
	case l.luLambdas:
		// Lu et al., "DPM-Solver++", with rho = 1: even steps of lambda.
		sigmas = linspace(float64(l.logSigmas[l.trainSteps()-1]), float64(l.logSigmas[0]), n)
		for i, s := range sigmas {
			sigmas[i] = math.Exp(s)
		}
	default:
		sigmas = make([]float64, len(spaced))
		for i, t := range spaced {
			sigmas[i] = interpolate(t, l.training.sigmas)
		}
		return spaced, sigmas
	}
	timesteps = timestepsOf(sigmas, l.logSigmas)
	for i, t := range timesteps {
		timesteps[i] = float64(int(round(l.conversion.kind, t)))
	}
	return timesteps, sigmas
}

// finish appends the level that a run ends at, and rounds all to float32.
func (l *logSNR) finish(sigmas []float64) []float32 {
	if l.sigmaMin {
		return append(rounded32(sigmas), l.training.sigmas[0])
	}
	return append(rounded32(sigmas), 0)
}

// level is a place in a schedule.
type level struct{ alpha, sigma, lambda float32 }

func levelOf(ratio float32) level {
	alpha := 1 / sqrt(float32(ratio*ratio)+1)
	sigma := float32(ratio * alpha)
	return level{alpha, sigma, log(alpha) - log(sigma)}
}

func levelsOf(ratios []float32) []level {
	out := make([]level, len(ratios))
	for i, r := range ratios {
		out[i] = levelOf(r)
	}
	return out
}

// at reads outputs of the model at a level.
func (l *logSNR) at(v level) variancePreserving {
	return variancePreserving{prediction: l.prediction, signal: v.alpha, noise: v.sigma}
}

// assemble puts a run together.
func (l *logSNR) assemble(timesteps []float64, sigmas []float32, begin int, m method) *Schedule {
	s := &Schedule{timesteps: rounded32(timesteps[begin:]), sigmas: sigmas[begin:], initNoiseSigma: 1, method: m}
	for _, v := range levelsOf(sigmas[begin : len(sigmas)-1]) {
		s.noising = append(s.noising, mix{signal: v.alpha, noise: v.sigma})
	}
	return s
}
