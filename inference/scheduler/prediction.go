package scheduler

import (
	"fmt"
	"slices"
)

// prediction is what the model's output stands for.
type prediction int

const (
	epsilon  prediction = iota // the noise
	velocity                   // v of Salimans and Ho, "Progressive Distillation", appendix D
	sample                     // the clean sample
)

// newPrediction reads the configuration's prediction type, one of those that the class knows.
func newPrediction(c Config, known ...prediction) (prediction, error) {
	p, ok := map[string]prediction{"epsilon": epsilon, "v_prediction": velocity, "sample": sample}[c.PredictionType()]
	if !ok || !slices.Contains(known, p) {
		return 0, fmt.Errorf("%w: prediction_type %q", ErrUnsupported, c.PredictionType())
	}
	return p, nil
}

// variancePreserving reads outputs of a model on samples x = signal*x0 + noise*eps.
type variancePreserving struct {
	prediction    prediction
	signal, noise float32
}

// clean writes the predicted clean sample into dst.
func (v variancePreserving) clean(dst, x, output []float32) {
	a, s := v.signal, v.noise
	switch v.prediction {
	case epsilon:
		for i := range dst {
			dst[i] = (x[i] - float32(s*output[i])) / a
		}
	case velocity:
		for i := range dst {
			dst[i] = float32(a*x[i]) - float32(s*output[i])
		}
	case sample:
		copy(dst, output)
	}
}

// noised writes the predicted noise into dst.
func (v variancePreserving) noised(dst, x, output []float32) {
	a, s := v.signal, v.noise
	switch v.prediction {
	case epsilon:
		copy(dst, output)
	case velocity:
		for i := range dst {
			dst[i] = float32(a*output[i]) + float32(s*x[i])
		}
	case sample:
		for i := range dst {
			dst[i] = (x[i] - float32(a*output[i])) / s
		}
	}
}

// varianceExploding reads outputs of a model on samples x = x0 + sigma*eps.
type varianceExploding struct {
	prediction prediction
	sigma      float32
}

// clean writes the predicted clean sample into dst.
func (v varianceExploding) clean(dst, x, output []float32) {
	switch v.prediction {
	case epsilon:
		for i := range dst {
			dst[i] = x[i] - float32(v.sigma*output[i])
		}
	case velocity:
		variance := float32(v.sigma*v.sigma) + 1
		out := -v.sigma / sqrt(variance)
		for i := range dst {
			dst[i] = float32(output[i]*out) + x[i]/variance
		}
	case sample:
		copy(dst, output)
	}
}
