package noise

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// The first words of the standard seed, as std::mt19937 gives them.
func TestTwisterWords(t *testing.T) {
	g := New(5489)
	for i, want := range []uint32{3499211612, 581869302, 3890346734, 3586334585} {
		if got := g.uint32(); got != want {
			t.Errorf("word %d: %d, want %d", i, got, want)
		}
	}
}

func TestFMARoundsOnce(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, x, y, z float32) {
		const exact = 600 // bits enough for any product and sum of float32
		p := new(big.Float).SetPrec(exact).SetFloat64(float64(x) * float64(y))
		s := new(big.Float).SetPrec(exact).Add(p, new(big.Float).SetFloat64(float64(z)))
		want, _ := s.Float32()
		if got := fma(x, y, z); got != want || fmaToOdd(x, y, z) != want {
			t.Fatalf("fma(%x, %x, %x) = %x, want %x", x, y, z, got, want)
		}
	}
	// 1 + 2^-24 + 2^-70 lies just above the middle of two float32: through float64 it would round to even, to 1.
	check(t, 0x1p-35, 0x1p-35, 1+0x1p-23)
	check(t, 1+0x1p-12, 1+0x1p-12, 0x1p-60)
	check(t, -(1 + 0x1p-12), 1+0x1p-12, -0x1p-60)
	value := rapid.Custom(func(t *rapid.T) float32 {
		m := rapid.Uint32Range(0, 1<<23-1).Draw(t, "mantissa")
		e := rapid.Uint32Range(97, 157).Draw(t, "exponent")
		s := rapid.Uint32Range(0, 1).Draw(t, "sign")
		return math.Float32frombits(s<<31 | e<<23 | m)
	})
	rapid.Check(t, func(t *rapid.T) {
		check(t, value.Draw(t, "x"), value.Draw(t, "y"), value.Draw(t, "z"))
	})
}
