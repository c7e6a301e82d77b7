package noise

import "math"

// block is the number of values that PyTorch's kernel transforms at once.
const block = 16

// Normal fills dst with standard normal values: what torch.randn(len(dst), generator=g, dtype=torch.float32) gives.
//
// As in PyTorch the values depend on how the draws are divided: Normal of 32 values equals two of 16, but not of 20
// and 12. It does not allocate.
func (g *Generator) Normal(dst []float32) {
	if len(dst) < block {
		g.small(dst)
		return
	}
	for i := range dst {
		dst[i] = g.uniform()
	}
	full := len(dst) / block * block
	for i := 0; i < full; i += block {
		boxMuller((*[block]float32)(dst[i:]))
	}
	if full < len(dst) {
		// The tail is drawn afresh, over values that are already done (ATen's normal_fill).
		tail := (*[block]float32)(dst[len(dst)-block:])
		for i := range tail {
			tail[i] = g.uniform()
		}
		boxMuller(tail)
	}
}

// small is the double precision path of fewer than 16 values (at::normal_distribution<double>).
func (g *Generator) small(dst []float32) {
	for i := range dst {
		if g.hasSpare {
			dst[i], g.hasSpare = float32(g.spare), false
			continue
		}
		u1 := g.uniform64()
		u2 := g.uniform64()
		r := math.Sqrt(-2 * math.Log1p(-u2))
		sin, cos := math.Sincos(2 * math.Pi * u1)
		dst[i] = float32(r * cos)
		g.spare, g.hasSpare = float64(r*sin), true
	}
}

// boxMuller turns 16 uniform values into normal ones (ATen's normal_fill_16_AVX2): the first eight give the radius,
// the last eight the angle.
func boxMuller(d *[block]float32) {
	for j := range block / 2 {
		r := sqrt(-2 * log(1-d[j]))
		sin, cos := sincos(float32(2 * math.Pi * d[j+block/2]))
		d[j] = r * cos
		d[j+block/2] = r * sin
	}
}
