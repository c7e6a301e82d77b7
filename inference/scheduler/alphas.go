package scheduler

import "fmt"

// alphas is what the classes share that step between whole training timesteps (DDIM, DDPM, PNDM, LCM): samples
// x = sqrt(abar)*x0 + sqrt(1-abar)*noise.
type alphas struct {
	training
	prediction prediction
	final      float32 // abar below timestep 0
}

func newAlphas(c Config, d betaDefaults, finalOne bool, known ...prediction) (alphas, error) {
	var (
		a   alphas
		err error
	)
	if a.training, err = newTraining(c, d); err != nil {
		return a, err
	}
	a.final = 1
	if !finalOne {
		a.final = a.alphasCumprod[0]
	}
	a.prediction, err = newPrediction(c, known...)
	return a, err
}

// abar is the share of signal at a timestep, which may be below 0.
func (a *alphas) abar(t int) float32 {
	if t < 0 {
		return a.final
	}
	return a.alphasCumprod[t]
}

// at reads outputs of the model at a timestep.
func (a *alphas) at(t int) variancePreserving {
	abar := a.abar(t)
	return variancePreserving{prediction: a.prediction, signal: sqrt(abar), noise: sqrt(1 - abar)}
}

// assemble puts a run together from its kept timesteps.
func (a *alphas) assemble(timesteps []int, m method) *Schedule {
	s := &Schedule{initNoiseSigma: 1, method: m}
	for _, t := range timesteps {
		abar := a.abar(t)
		s.timesteps = append(s.timesteps, float32(t))
		s.noising = append(s.noising, mix{signal: sqrt(abar), noise: sqrt(1 - abar)})
	}
	return s
}

// index converts timesteps to places in the tables and refuses what lies outside: an offset or a trailing spacing can
// lead there, and the reference then stops, or reads the wrong end of the table.
func (a *alphas) index(timesteps []float64) ([]int, error) {
	out := make([]int, len(timesteps))
	for i, t := range timesteps {
		out[i] = int(t)
		if out[i] < 0 || out[i] >= a.trainSteps() {
			return nil, fmt.Errorf("%w: timestep %d is outside the model's %d; another number of steps avoids it", ErrSteps, out[i], a.trainSteps())
		}
	}
	return out, nil
}
