package noise

import "math"

// fma returns x*y + z with a single rounding to float32.
//
// The product of two float32 is exact in float64, and so the sum s is rounded once there. Rounding it again, to
// float32, is harmless unless s lies exactly between two float32 (or among the subnormals): then the part that the
// first rounding dropped decides. math.FMA would round twice.
func fma(x, y, z float32) float32 {
	s := float64(x)*float64(y) + float64(z)
	if math.Float64bits(s)&(1<<29-1) == 1<<28 || math.Abs(s) < smallestNormal {
		return fmaToOdd(x, y, z)
	}
	return float32(s)
}

// fmaToOdd is fma through a sum rounded to odd, right in every case (Boldo and Melquiond, "Emulation of FMA and
// correctly rounded sums: proved algorithms using rounding to odd").
func fmaToOdd(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	e := (p - (s - t)) + (c - t) // Knuth's TwoSum: the exact error of s
	if b := math.Float64bits(s); e != 0 && b&1 == 0 {
		// The odd neighbour on the side of the error.
		if (e > 0) == (s > 0) {
			b++
		} else {
			b--
		}
		s = math.Float64frombits(b)
	}
	return float32(s)
}
