package scheduler

import "math"

// The scalars of a step are float32 tensors in the reference: every operation rounds.

func sqrt(x float32) float32  { return float32(math.Sqrt(float64(x))) }
func log(x float32) float32   { return float32(math.Log(float64(x))) }
func exp(x float32) float32   { return float32(math.Exp(float64(x))) }
func expm1(x float32) float32 { return float32(math.Expm1(float64(x))) }

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
