package scheduler

import "math"

// The scalars of a step are float32 tensors in the reference: every operation rounds.

func sqrt(x float32) float32  { return float32(math.Sqrt(float64(x))) }
func expm1(x float32) float32 { return float32(math.Expm1(float64(x))) }

// log is torch.log but for one value in a thousand: SLEEF's logf of 1 ulp (Sleef_logf8_u10), whose sums of two float32
// are float64 here. The solvers divide differences of logarithms by each other, which magnifies its last bit.
func log(x float32) float32 {
	if !(x > 0) || math.IsInf(float64(x), 1) {
		return float32(math.Log(float64(x)))
	}
	m, e := math.Frexp(float64(x)) // in [0.5, 1)
	if m < 0.75 {
		m *= 2
		e--
	}
	z := (m - 1) / (m + 1)
	h := float32(z)
	h2 := float32(h * h)
	t := fma(0.3027294874, h2, 0.3996108174)
	t = fma(t, h2, 0.6666694880)
	ln2 := 0.69314718246459960938 - 1.904654323148236017e-09
	return float32(float64(float64(e)*ln2) + 2*z + float64(float32(float32(h2*h)*t)))
}

// exp is torch.exp, bit by bit: SLEEF's expf of 1 ulp (Sleef_expf8_u10) with fused products. The solvers subtract 1
// from it, which magnifies its last bit.
func exp(x float32) float32 {
	switch {
	case x < -104:
		return 0
	case x > 100:
		return float32(math.Inf(1))
	}
	q := float32(math.RoundToEven(float64(float32(x * math.Log2E))))
	s := fma(q, -0.693145751953125, x)
	s = fma(q, -1.428606765330187045e-06, s)
	u := float32(0.000198527617612853646278381)
	for _, c := range [...]float32{
		0.00139304355252534151077271, 0.00833336077630519866943359, 0.0416664853692054748535156, 0.166666671633720397949219, 0.5,
	} {
		u = fma(u, s, c)
	}
	u = 1 + fma(float32(s*s), u, s)
	return float32(math.Ldexp(float64(u), int(q)))
}

// numpyLog is numpy.log of a positive float32, bit by bit: the rational function of its AVX2 and AVX-512 kernels
// (simd_log_FLOAT, up to 4 ulp off). Timesteps that are cut to integers need it.
func numpyLog(x float32) float32 {
	frac, e := math.Frexp(float64(x))
	m, exponent := float32(frac), float32(e)
	if m <= math.Sqrt2/2 {
		m *= 2
		exponent--
	}
	m--
	numerator, denominator := float32(2.589979117907922693523e-02), float32(5.875095403124574342950e-03)
	for _, c := range [...][2]float32{
		{3.808837741388407920751e-01, 1.546476374983906719538e-01},
		{1.480000633576506585156e+00, 9.864942958519418960339e-01},
		{2.112677543073053063722e+00, 2.453006071784736363091e+00},
		{9.999999999999998702752e-01, 2.612677543073109236779e+00},
		{0, 1},
	} {
		numerator, denominator = fma(numerator, m, c[0]), fma(denominator, m, c[1])
	}
	return fma(exponent, math.Ln2, numerator/denominator)
}

// midpoint is torch.lerp(a, b, 0.5).
func midpoint(a, b float32) float32 { return b - float32((b-a)*0.5) }

// fma returns x*y + z with a single rounding: the product is exact in float64, the sum is rounded to odd there
// (Boldo and Melquiond), which makes the second rounding harmless.
func fma(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	e := (p - (s - t)) + (c - t)
	if b := math.Float64bits(s); e != 0 && b&1 == 0 {
		if (e > 0) == (s > 0) {
			b++
		} else {
			b--
		}
		s = math.Float64frombits(b)
	}
	return float32(s)
}

func roundToEven(x float32) float32 { return float32(math.RoundToEven(float64(x))) }
