package scheduler

// kDiffusion is what the classes after k-diffusion share (Euler, LMS, Heun, DPM2): samples x = x0 + sigma*noise, and a
// model that is asked at sigmas anywhere between those of its training.
type kDiffusion struct {
	training
	logSigmas  []float32
	spacing    spacing
	conversion conversion
	prediction prediction
}

func newKDiffusion(c Config, d betaDefaults, known ...prediction) (kDiffusion, error) {
	var (
		k   kDiffusion
		err error
	)
	if k.training, err = newTraining(c, d); err != nil {
		return k, err
	}
	k.logSigmas = logs(k.training.sigmas)
	if k.spacing, err = newSpacing(c, "linspace"); err != nil {
		return k, err
	}
	if k.conversion, err = newConversion(c); err != nil {
		return k, err
	}
	k.prediction, err = newPrediction(c, known...)
	return k, err
}

// levels gives the timesteps of n steps and their sigmas, without the last, 0.
func (k *kDiffusion) levels(n int) (timesteps, sigmas []float64) {
	timesteps = k.spacing.fractional(n, k.trainSteps())
	return k.convert(timesteps, k.trained(timesteps), n)
}

// trained gives the sigmas that the training has at timesteps.
func (k *kDiffusion) trained(timesteps []float64) []float64 {
	sigmas := make([]float64, len(timesteps))
	for i, t := range timesteps {
		sigmas[i] = interpolate(float64(float32(t)), k.training.sigmas)
	}
	return sigmas
}

// convert replaces sigmas, and the timesteps that belong to them, if the configuration says so.
func (k *kDiffusion) convert(timesteps, sigmas []float64, n int) (convertedTimesteps, convertedSigmas []float64) {
	if k.conversion.kind == noConversion {
		return timesteps, sigmas
	}
	// Unlike the DPM solvers these classes keep the ends of the run, not those of the training.
	sigmas = k.conversion.sigmas(sigmas[0], sigmas[len(sigmas)-1], n)
	return timestepsOf(sigmas, k.logSigmas), sigmas
}

// assemble puts a run together. sigmas has the level of each call and of what follows the last; inputs the level
// whose scale the model's input has, where that is another.
func (k *kDiffusion) assemble(timesteps, sigmas, inputs []float32, begin int, m method) *Schedule {
	highest := sigmas[0]
	for _, s := range sigmas {
		highest = max(highest, s)
	}
	s := &Schedule{timesteps: timesteps[begin:], sigmas: sigmas[begin:], initNoiseSigma: highest, method: m}
	if k.spacing.kind == "leading" {
		s.initNoiseSigma = sqrt(float32(highest*highest) + 1)
	}
	for i := begin; i < len(timesteps); i++ {
		s.noising = append(s.noising, mix{signal: 1, noise: sigmas[i]})
		s.inputScale = append(s.inputScale, sqrt(float32(inputs[i]*inputs[i])+1))
	}
	return s
}

// at reads outputs of the model at a sigma.
func (k *kDiffusion) at(sigma float32) varianceExploding {
	return varianceExploding{prediction: k.prediction, sigma: sigma}
}

// advance moves dst along the line from x in the direction of its clean prediction, the derivative dx/dsigma at
// sigma, by dt.
func advance(dst, x, clean []float32, sigma, dt float32) {
	for i := range dst {
		dst[i] = x[i] + float32((x[i]-clean[i])/sigma*dt)
	}
}

// addScaled adds noise*scale to x.
func addScaled(x, noise []float32, scale float32) {
	for i := range x {
		x[i] += float32(noise[i] * scale)
	}
}

// ancestral divides the way from one sigma to a lower one into a deterministic step down and noise up (k-diffusion
// get_ancestral_step).
func ancestral(from, to float32) (down, up float32) {
	to2, from2 := float32(to*to), float32(from*from)
	up = sqrt(float32(to2*(from2-to2)) / from2)
	return sqrt(to2 - float32(up*up)), up
}
