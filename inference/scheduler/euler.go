package scheduler

import "fmt"

// euler is EulerDiscreteScheduler: one Euler step of the probability flow for each model call (Karras et al.,
// "Elucidating the Design Space of Diffusion-Based Generative Models", algorithm 1 without its second order).
type euler struct {
	kDiffusion
	logLinear  bool // sigmas evenly spaced in their logarithm, whatever the timesteps
	continuous bool // the model is asked with ln(sigma)/4
	sigmaMin   bool // the run ends at the lowest sigma of the training, not at 0
}

func newEuler(c Config) (sampler, error) {
	k, err := newKDiffusion(c, betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", zeroSNR: nearZeroSNR}, epsilon, velocity, sample)
	if err != nil {
		return nil, err
	}
	e := &euler{kDiffusion: k, continuous: or(c.TimestepType, "discrete") == "continuous" && k.prediction == velocity}
	switch kind := or(c.InterpolationType, "linear"); kind {
	case "linear":
	case "log_linear":
		e.logLinear = true
	default:
		return nil, fmt.Errorf("%w: interpolation_type %q", ErrUnsupported, kind)
	}
	e.sigmaMin, err = finalSigmaMin(c)
	return e, err
}

// finalSigmaMin reads final_sigmas_type.
func finalSigmaMin(c Config) (bool, error) {
	switch kind := or(c.FinalSigmasType, "zero"); kind {
	case "zero":
		return false, nil
	case "sigma_min":
		return true, nil
	default:
		return false, fmt.Errorf("%w: final_sigmas_type %q", ErrUnsupported, kind)
	}
}

func (e *euler) schedule(steps int, strength float64) (*Schedule, error) {
	begin, err := firstCall(steps, strength, 1)
	if err != nil {
		return nil, err
	}
	spaced := e.spacing.fractional(steps, e.trainSteps())
	levels := e.trained(spaced)
	if e.logLinear {
		levels = e.logLinearLevels(steps)
	}
	spaced, levels = e.convert(spaced, levels, steps)
	timesteps, sigmas := rounded32(spaced), rounded32(levels)
	if e.sigmaMin {
		sigmas = append(sigmas, e.training.sigmas[0])
	} else {
		sigmas = append(sigmas, 0)
	}
	if e.continuous {
		timesteps = make([]float32, len(sigmas)-1)
		for i := range timesteps {
			timesteps[i] = 0.25 * log(sigmas[i])
		}
	}
	return e.assemble(timesteps, sigmas, sigmas, begin, &eulerMethod{kDiffusion: &e.kDiffusion, sigmas: sigmas[begin:]}), nil
}

// logLinearLevels has one level more than there are steps: the run stops at the lowest instead of at 0.
func (e *euler) logLinearLevels(steps int) []float64 {
	highest, lowest := e.logSigmas[e.trainSteps()-1], e.logSigmas[0]
	var levels []float64
	for _, l := range linspace32(float64(highest), float64(lowest), steps+1) {
		levels = append(levels, float64(exp(l)))
	}
	return levels
}

type eulerMethod struct {
	*kDiffusion
	sigmas []float32
}

func (m *eulerMethod) start(own *memory) run {
	return &eulerRun{eulerMethod: m, clean: own.floats()}
}

type eulerRun struct {
	*eulerMethod
	clean []float32
}

func (r *eulerRun) step(call int, x, output []float32, _ Noise) {
	sigma, next := r.sigmas[call], r.sigmas[call+1]
	r.at(sigma).clean(r.clean, x, output)
	advance(x, x, r.clean, sigma, next-sigma)
}
