package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// spacing chooses which of the training timesteps a run visits (Lin et al., "Common Diffusion Noise Schedules and
// Sample Steps are Flawed", table 2).
type spacing struct {
	kind   string
	offset int // added to leading timesteps
}

func newSpacing(c Config, kind string) (spacing, error) {
	s := spacing{kind: or(c.TimestepSpacing, kind), offset: or(c.StepsOffset, 0)}
	if !slices.Contains([]string{"linspace", "leading", "trailing"}, s.kind) {
		return s, fmt.Errorf("%w: timestep_spacing %q", ErrUnsupported, s.kind)
	}
	if s.offset < 0 || s.offset > maxTrainSteps {
		return s, fmt.Errorf("%w: steps_offset %d", ErrUnsupported, s.offset)
	}
	return s, nil
}

// whole gives n whole timesteps below train, falling (DDIM, DDPM and PNDM).
func (s spacing) whole(n, train int) []float64 {
	ts := s.fractional(n, train)
	for i, t := range ts {
		ts[i] = math.RoundToEven(t)
	}
	return ts
}

// fractional gives n timesteps below train, falling; linspace is not rounded (the classes after k-diffusion).
func (s spacing) fractional(n, train int) []float64 {
	switch s.kind {
	case "leading":
		return s.leading(n, n, train)
	case "trailing":
		return trailing(n, train, train)
	default:
		ts := linspace(0, float64(train-1), n)
		slices.Reverse(ts)
		return ts
	}
}

// between gives n whole timesteps, falling, and leaves out the last of n+1 (the DPM solvers). The run starts below
// top, which is at most train.
func (s spacing) between(n, top, train int) []float64 {
	switch s.kind {
	case "leading":
		return s.leading(n, n+1, top)
	case "trailing":
		return trailing(n, top, train)
	default:
		ts := linspace(0, float64(top-1), n+1)
		for i, t := range ts {
			ts[i] = math.RoundToEven(t)
		}
		slices.Reverse(ts)
		return ts[:n]
	}
}

// leading gives the upper n of parts multiples of the whole ratio top/parts.
func (s spacing) leading(n, parts, top int) []float64 {
	ts := make([]float64, n)
	for i := range ts {
		ts[i] = float64((parts-1-i)*(top/parts) + s.offset)
	}
	return ts
}

// trailing counts down from top in n equal parts of train. For some n (61 of 1000 is the first) the reference gets one
// timestep more, -1, by rounding; so does this.
func trailing(n, top, train int) []float64 {
	ts := arange(float64(top), 0, -float64(train)/float64(n))
	for i, t := range ts {
		ts[i] = math.RoundToEven(t) - 1
	}
	return ts
}

// arange is numpy.arange: the difference of its first two elements, rounded, is what it counts with.
func arange(start, stop, step float64) []float64 {
	out := make([]float64, max(0, int(math.Ceil((stop-start)/step))))
	delta := (start + step) - start
	for i := range out {
		out[i] = start + float64(float64(i)*delta)
	}
	return out
}

// linspace is numpy.linspace in float64.
func linspace(start, stop float64, n int) []float64 {
	out := make([]float64, n)
	step := (stop - start) / float64(max(n-1, 1))
	for i := range out {
		out[i] = float64(float64(i)*step) + start
	}
	if n > 1 {
		out[n-1] = stop
	}
	return out
}

// interpolate is numpy.interp at t over the whole numbers, held at the ends.
func interpolate(t float64, values []float32) float64 {
	last := len(values) - 1
	if t <= 0 {
		return float64(values[0])
	}
	if t >= float64(last) {
		return float64(values[last])
	}
	i := int(t)
	slope := float64(values[i+1]) - float64(values[i])
	return float64(slope*(t-float64(i))) + float64(values[i])
}
