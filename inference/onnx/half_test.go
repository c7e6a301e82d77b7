package onnx_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/x448/float16"
	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/onnx"
)

func TestHalf(t *testing.T) {
	for _, tt := range []struct {
		value float32
		bits  uint16
	}{
		{0, 0}, {float32(math.Copysign(0, -1)), 0x8000}, {1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65519, 0x7bff}, {65520, 0x7c00},
		{float32(math.Inf(-1)), 0xfc00}, {6.1035156e-5, 0x0400}, {5.9604645e-8, 0x0001}, {2.9802322e-8, 0x0000}, {2.9802326e-8, 0x0001},
		{1 + 1.0/2048, 0x3c00}, {1 + 3.0/2048, 0x3c02}, // ties to even
	} {
		var half [2]byte
		onnx.ToHalf(half[:], []float32{tt.value})
		if got := binary.NativeEndian.Uint16(half[:]); got != tt.bits {
			t.Errorf("%g became %#04x, want %#04x", tt.value, got, tt.bits)
		}
	}
	var half [2]byte
	onnx.ToHalf(half[:], []float32{float32(math.NaN())})
	var back [1]float32
	onnx.FromHalf(back[:], half[:])
	if !math.IsNaN(float64(back[0])) {
		t.Errorf("NaN became %v", back[0])
	}
}

func TestHalfEqualsTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		half := make([]byte, 2)
		onnx.ToHalf(half, []float32{v})
		if got, want := binary.NativeEndian.Uint16(half), float16.Fromfloat32(v).Bits(); got != want && !math.IsNaN(float64(v)) {
			t.Fatalf("%g became %#04x, want %#04x", v, got, want)
		}
	})
}

func TestHalfThereAndBack(t *testing.T) {
	for bits := range 1 << 16 {
		if bits&0x7c00 == 0x7c00 && bits&0x3ff != 0 {
			continue // NaN
		}
		half, again := make([]byte, 2), make([]byte, 2)
		binary.NativeEndian.PutUint16(half, uint16(bits))
		var value [1]float32
		onnx.FromHalf(value[:], half)
		onnx.ToHalf(again, value[:])
		if got := binary.NativeEndian.Uint16(again); int(got) != bits {
			t.Fatalf("%#04x became %#04x by way of %g", bits, got, value[0])
		}
	}
}

func TestHalfIsTheNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float32Range(-65504, 65504).Draw(t, "v")
		half := make([]byte, 2)
		onnx.ToHalf(half, []float32{v})
		bits := binary.NativeEndian.Uint16(half)
		var near [3]float32
		for i, b := range []uint16{bits, bits + 1, bits - 1} {
			binary.NativeEndian.PutUint16(half, b)
			onnx.FromHalf(near[i:i+1], half)
		}
		for _, other := range near[1:] {
			if math.Abs(float64(v)-float64(near[0])) > math.Abs(float64(v)-float64(other)) {
				t.Fatalf("%g became %g, though %g is nearer", v, near[0], other)
			}
		}
	})
}

func BenchmarkHalf(b *testing.B) {
	floats, half := make([]float32, 2*4*64*64), make([]byte, 2*2*4*64*64)
	for i := range floats {
		floats[i] = float32(math.Sin(float64(i)))
	}
	b.Run("to", func(b *testing.B) {
		for b.Loop() {
			onnx.ToHalf(half, floats)
		}
	})
	b.Run("from", func(b *testing.B) {
		for b.Loop() {
			onnx.FromHalf(floats, half)
		}
	})
}
