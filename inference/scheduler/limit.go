package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// limit keeps predicted clean samples in range; models in pixel space need it. The zero value does nothing.
type limit struct {
	clip     float32 // to ±clip; 0 means no
	quantile float32 // dynamic thresholding at this quantile of the magnitudes, but at most; 0 means no
	most     float32
}

// newLimit reads thresholding, which goes before clip_sample.
func newLimit(c Config, clip bool) (limit, error) {
	if or(c.Thresholding, false) {
		l := limit{quantile: float32(or(c.DynamicThresholdingRatio, 0.995)), most: float32(or(c.SampleMaxValue, 1))}
		if !(l.quantile > 0 && l.quantile <= 1) {
			return l, fmt.Errorf("%w: dynamic_thresholding_ratio %v is not between 0 and 1", ErrUnsupported, l.quantile)
		}
		return l, nil
	}
	if !or(c.ClipSample, clip) {
		return limit{}, nil
	}
	l := limit{clip: float32(or(c.ClipSampleRange, 1))}
	if !(l.clip > 0) {
		return l, fmt.Errorf("%w: clip_sample_range %v is not positive", ErrUnsupported, l.clip)
	}
	return l, nil
}

// scratch returns the buffer that apply needs.
func (l limit) scratch(own *memory) []float32 {
	if l.quantile == 0 {
		return nil
	}
	return own.floats()
}

// apply limits x in place.
func (l limit) apply(x, scratch []float32) {
	if l.quantile > 0 {
		l.threshold(x, scratch)
		return
	}
	if l.clip > 0 {
		for i, v := range x {
			x[i] = min(max(v, -l.clip), l.clip)
		}
	}
}

// threshold is dynamic thresholding (Saharia et al., "Photorealistic Text-to-Image Diffusion Models"; diffusers
// _threshold_sample): the sample is clipped to a quantile of its magnitudes and divided by it.
func (l limit) threshold(x, scratch []float32) {
	for i, v := range x {
		scratch[i] = float32(math.Abs(float64(v)))
	}
	slices.Sort(scratch)
	rank := l.quantile * float32(len(x)-1)
	low := int(rank)
	s := scratch[low]
	if w := rank - float32(low); w > 0 {
		next := scratch[low+1]
		if w < 0.5 {
			s += float32(w * (next - s))
		} else {
			s = next - float32((next-s)*(1-w))
		}
	}
	s = min(max(s, 1), l.most)
	for i, v := range x {
		x[i] = min(max(v, -s), s) / s
	}
}
