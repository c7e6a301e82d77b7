package scheduler

import (
	"fmt"
	"math"
)

// conversion replaces a class's own sigmas by another curve between the same ends.
type conversion struct {
	kind               conversionKind
	sigmaMin, sigmaMax *float64 // in place of the ends
}

type conversionKind int

const (
	noConversion conversionKind = iota
	karrasSigmas
	exponentialSigmas
	betaSigmas
)

func newConversion(c Config) (conversion, error) {
	v := conversion{sigmaMin: c.SigmaMin, sigmaMax: c.SigmaMax}
	for _, end := range []*float64{v.sigmaMin, v.sigmaMax} {
		if end != nil && *end <= 0 {
			return v, fmt.Errorf("%w: sigma_min and sigma_max must be positive", ErrUnsupported)
		}
	}
	wanted := 0
	for kind, on := range map[conversionKind]*bool{
		karrasSigmas: c.UseKarrasSigmas, exponentialSigmas: c.UseExponentialSigmas, betaSigmas: c.UseBetaSigmas,
	} {
		if or(on, false) {
			v.kind = kind
			wanted++
		}
	}
	if wanted > 1 {
		return v, fmt.Errorf("%w: only one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas can be used", ErrUnsupported)
	}
	return v, nil
}

// sigmas gives n falling sigmas from first to last.
func (v conversion) sigmas(first, last float64, n int) []float64 {
	hi, lo := or(v.sigmaMax, first), or(v.sigmaMin, last)
	switch v.kind {
	case karrasSigmas:
		return karras(hi, lo, n)
	case exponentialSigmas:
		return logSpaced(hi, lo, n)
	default:
		return betaSpaced(hi, lo, n)
	}
}

// karras is equation 5 of Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models".
func karras(hi, lo float64, n int) []float64 {
	const rho = 7
	a, b := math.Pow(hi, 1./rho), math.Pow(lo, 1./rho)
	s := linspace(0, 1, n)
	for i, ramp := range s {
		s[i] = math.Pow(a+float64(ramp*(b-a)), rho)
	}
	return s
}

func logSpaced(hi, lo float64, n int) []float64 {
	s := linspace(math.Log(hi), math.Log(lo), n)
	for i, l := range s {
		s[i] = math.Exp(l)
	}
	return s
}

// betaSpaced follows the quantiles of Beta(0.6, 0.6) ("Beta Sampling is All You Need").
func betaSpaced(hi, lo float64, n int) []float64 {
	s := linspace(0, 1, n)
	for i, ramp := range s {
		s[i] = lo + float64(betaQuantile(1-ramp, 0.6)*(hi-lo))
	}
	return s
}

// logs is numpy.log of each value.
func logs(values []float32) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = numpyLog(v)
	}
	return out
}

// timestepOf is the training timestep, with fraction, at which the model knows a sigma: linear in the logarithm
// (diffusers _sigma_to_t).
func timestepOf(sigma float64, logSigmas []float32) float64 {
	l := math.Log(max(sigma, 1e-10))
	low := 0
	for i, s := range logSigmas {
		if l >= float64(s) {
			low = i
		}
	}
	low = min(low, len(logSigmas)-2)
	a, b := logSigmas[low], logSigmas[low+1]
	w := (float64(a) - l) / float64(a-b)
	w = min(max(w, 0), 1)
	return float64((1-w)*float64(low)) + float64(w*float64(low+1))
}

// timestepsOf is timestepOf for each sigma.
func timestepsOf(sigmas []float64, logSigmas []float32) []float64 {
	out := make([]float64, len(sigmas))
	for i, s := range sigmas {
		out[i] = timestepOf(s, logSigmas)
	}
	return out
}

// rounded32 converts float64 to float32.
func rounded32(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}
