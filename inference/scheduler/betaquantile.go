package scheduler

import "math"

// betaQuantile is the inverse of the cumulative distribution of Beta(a, a) at p in [0, 1].
func betaQuantile(p, a float64) float64 {
	switch {
	case p <= 0:
		return 0
	case p >= 1:
		return 1
	case p > 0.5:
		return 1 - betaQuantile(1-p, a) // symmetric, and exact near 1
	}
	// Bisection on the logarithm keeps the relative precision near 0.
	lo, hi := -100.0, math.Log(0.5)
	for range 100 {
		mid := (lo + hi) / 2
		if betaCDF(math.Exp(mid), a) < p {
			lo = mid
		} else {
			hi = mid
		}
	}
	return math.Exp((lo + hi) / 2)
}

// betaCDF is the regularised incomplete beta function I_x(a, a) for x <= 1/2, by its continued fraction (Lentz's
// method; Numerical Recipes, section 6.4).
func betaCDF(x, a float64) float64 {
	lgA, _ := math.Lgamma(a)
	lg2A, _ := math.Lgamma(2 * a)
	front := math.Exp(lg2A-2*lgA+a*math.Log(x)+a*math.Log1p(-x)) / a
	const tiny = 1e-300
	away := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/away(1-2*a*x/(a+1))
	f := d
	for m := 1.0; m < 200; m++ {
		even := m * (a - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / away(1+even*d)
		c = away(1 + even/c)
		f *= d * c
		odd := -(a + m) * (2*a + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / away(1+odd*d)
		c = away(1 + odd/c)
		f *= d * c
		if math.Abs(d*c-1) < 1e-16 {
			break
		}
	}
	return front * f
}
