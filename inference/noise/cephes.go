package noise

import "math"

// The elementary functions of ATen's avx_mathfun.h: float32 polynomials from Cephes, with the products that a
// compiler contracts when it builds that file for AVX2 written as fma. Where a product must round on its own it is
// converted explicitly, for Go may contract as well.

const smallestNormal = 0x1p-126

// sqrt is correctly rounded: rounding the float64 root to float32 is harmless.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// log returns the natural logarithm of x, for x >= 0.
func log(x float32) float32 {
	x = max(x, smallestNormal)
	bits := math.Float32bits(x)
	e := float32(int32(bits>>23) - 126)
	m := math.Float32frombits(bits&^(0xff<<23) | 126<<23) // in [0.5, 1)
	if m < 0.707106781186547524 {
		e--
		m = (m - 1) + m
	} else {
		m--
	}
	z := float32(m * m)
	y := float32(7.0376836292e-2)
	y = fma(y, m, -1.1514610310e-1)
	y = fma(y, m, 1.1676998740e-1)
	y = fma(y, m, -1.2420140846e-1)
	y = fma(y, m, 1.4249322787e-1)
	y = fma(y, m, -1.6668057665e-1)
	y = fma(y, m, 2.0000714765e-1)
	y = fma(y, m, -2.4999993993e-1)
	y = fma(y, m, 3.3333331174e-1)
	y = float32(y * m)
	y = fma(y, z, float32(e*-2.12194440e-4))
	y = fma(-z, 0.5, y)
	return fma(e, 0.693359375, m+y)
}

// sincos returns sine and cosine of x, for x >= 0.
func sincos(x float32) (sin, cos float32) {
	j := (int32(float32(x*1.27323954473516)) + 1) &^ 1 // octant
	n := float32(j)
	x = fma(n, -0.78515625, x)
	x = fma(n, -2.4187564849853515625e-4, x)
	x = fma(n, -3.77489497744594108e-8, x)
	z := float32(x * x)

	c := fma(2.443315711809948e-5, z, -1.388731625493765e-3)
	c = fma(c, z, 4.166664568298827e-2)
	c = float32(c * z)
	c = fma(c, z, -float32(z*0.5)) + 1

	s := fma(-1.9515295891e-4, z, 8.3321608736e-3)
	s = fma(s, z, -1.6666654611e-1)
	s = float32(s * z)
	s = fma(s, x, x)

	if j&2 != 0 {
		s, c = c, s
	}
	if j&4 != 0 {
		s = -s
	}
	if (j-2)&4 == 0 {
		c = -c
	}
	return s, c
}
