// Package noise draws the normal random numbers of PyTorch's CPU generator, bit by bit.
//
// A seed then makes the same picture here as in a program built on PyTorch. The values are those of the float32
// kernel that PyTorch runs on x86-64 with AVX2, on every processor that Go supports.
package noise

const (
	mtSize   = 624
	mtShift  = 397
	mtMatrix = 0x9908b0df
	mtUpper  = 0x80000000
	mtLower  = 0x7fffffff
)

// Generator is PyTorch's CPU generator: a Mersenne Twister (MT19937) and the second value of the last small normal
// draw. It is not safe for concurrent use: every image has its own.
type Generator struct {
	state [mtSize]uint32
	next  int

	// The spare value of Box-Muller in draws of fewer than 16 numbers; it survives larger draws in between
	// (at::CPUGeneratorImpl::next_double_normal_sample).
	spare    float64
	hasSpare bool
}

// New returns a generator as torch.Generator().manual_seed(seed) leaves it. As there, only the low 32 bits count.
func New(seed uint64) *Generator {
	g := &Generator{next: mtSize}
	s := uint32(seed)
	for i := range g.state {
		g.state[i] = s
		s = 1812433253*(s^s>>30) + uint32(i) + 1
	}
	return g
}

// uint32 returns the next 32 random bits.
func (g *Generator) uint32() uint32 {
	if g.next == mtSize {
		g.twist()
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (g *Generator) twist() {
	s := &g.state
	mix := func(i, j, k int) {
		y := s[i]&mtUpper | s[j]&mtLower
		s[i] = s[k] ^ y>>1 ^ -(y&1)&mtMatrix
	}
	for i := range mtSize - mtShift {
		mix(i, i+1, i+mtShift)
	}
	for i := mtSize - mtShift; i < mtSize-1; i++ {
		mix(i, i+1, i+mtShift-mtSize)
	}
	mix(mtSize-1, 0, mtShift-1)
	g.next = 0
}

// uniform returns a float32 in [0, 1) with 24 random bits.
func (g *Generator) uniform() float32 {
	return float32(g.uint32()&(1<<24-1)) * (1.0 / (1 << 24))
}

// uniform64 returns a float64 in [0, 1) with 53 random bits; the high word is drawn first.
func (g *Generator) uniform64() float64 {
	hi := uint64(g.uint32())
	u := hi<<32 | uint64(g.uint32())
	return float64(u&(1<<53-1)) * (1.0 / (1 << 53))
}
