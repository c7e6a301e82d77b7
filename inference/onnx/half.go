package onnx

import (
	"encoding/binary"
	"math"

	"github.com/x448/float16"
)

// toHalf rounds to half precision, half to even; what is too large becomes an
// infinity, and NaN stays NaN. It runs in the denoising loop, where the library
// that made the table below takes too long.
func toHalf(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, v := range src {
		binary.NativeEndian.PutUint16(dst[2*i:], half(v))
	}
}

// half is F. Giesen's float_to_half_fast3_rtne.
func half(v float32) uint16 {
	const (
		infinity  = 0x7f800000
		overflow  = (127 + 16) << 23 // 65,536
		subnormal = (127 - 14) << 23 // 2^-14
		magic     = 126 << 23        // 0.5: adding it aligns a subnormal's bits
		rebias    = 0xc8000fff       // (15-127)<<23 + half a unit, less one
	)
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	switch bits &= 0x7fffffff; {
	case bits > infinity:
		return sign | 0x7e00
	case bits >= overflow:
		return sign | 0x7c00
	case bits < subnormal:
		sum := math.Float32frombits(bits) + math.Float32frombits(magic)
		return sign | uint16(math.Float32bits(sum)-magic) //nolint:gosec // below 1<<11
	default:
		return sign | uint16((bits+rebias+bits>>13&1)>>13) //nolint:gosec // below 1<<15
	}
}

// wide has the value of every half: 256 KiB that stay in the cache are faster
// than the arithmetic.
var wide = func() *[1 << 16]float32 {
	var t [1 << 16]float32
	for i := range t {
		t[i] = float16.Frombits(uint16(i)).Float32()
	}
	return &t
}()

// fromHalf widens, which is exact.
func fromHalf(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = wide[binary.NativeEndian.Uint16(src[2*i:])]
	}
}
