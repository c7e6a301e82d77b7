package imaging

import (
	"fmt"
	"image"
	"math"
)

// ToTensor writes src as a model reads it: three planes (R, G, B) of rows, each
// value x/255*2-1 in float32, so in [-1, 1]; diffusers' VaeImageProcessor.
// Dst must hold 3*w*h values. Alpha is dropped.
func ToTensor(dst []float32, src *image.NRGBA) {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	if len(dst) != 3*w*h {
		panic(fmt.Sprintf("imaging: a tensor of %d values for %d x %d pixels", len(dst), w, h))
	}
	r, g, b := dst[:w*h], dst[w*h:2*w*h], dst[2*w*h:]
	for y := range h {
		row := src.Pix[y*src.Stride:][:4*w]
		for x := range w {
			i, p := y*w+x, row[4*x:][:4]
			r[i], g[i], b[i] = signed[p[0]], signed[p[1]], signed[p[2]]
		}
	}
}

var signed = func() (t [256]float32) {
	for i := range t {
		x := float32(i) / 255
		t[i] = x*2 - 1 // twice x is exact: a fused multiply-add gives the same
	}
	return t
}()

// ToMask writes src as an inpainting mask: 1, repaint, where its grey is at
// least one half, else 0. Grey is PIL's convert("L"). Dst must hold w*h values.
func ToMask(dst []float32, src *image.NRGBA) {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	if len(dst) != w*h {
		panic(fmt.Sprintf("imaging: a mask of %d values for %d x %d pixels", len(dst), w, h))
	}
	for y := range h {
		row := src.Pix[y*src.Stride:][:4*w]
		for x := range w {
			p := row[4*x:][:4]
			grey := (uint32(p[0])*19595 + uint32(p[1])*38470 + uint32(p[2])*7471 + 0x8000) >> 16
			dst[y*w+x] = float32(grey >> 7) // 128/255 is the first above one half
		}
	}
}

// FromTensor reads what ToTensor writes: clamp(x*0.5+0.5, 0, 1)*255, rounded
// half to even, in float32. Src must hold 3*w*h values; NaN gives 0.
func FromTensor(src []float32, w, h int) *image.NRGBA {
	if len(src) != 3*w*h {
		panic(fmt.Sprintf("imaging: a tensor of %d values for %d x %d pixels", len(src), w, h))
	}
	dst := image.NewNRGBA(image.Rect(0, 0, w, h))
	r, g, b := src[:w*h], src[w*h:2*w*h], src[2*w*h:]
	for i := range r {
		p := dst.Pix[4*i:][:4]
		p[0], p[1], p[2], p[3] = level(r[i]), level(g[i]), level(b[i]), 255
	}
	return dst
}

func level(x float32) uint8 {
	y := x*0.5 + 0.5
	if !(y > 0) { // NaN too
		return 0
	}
	// From 2^23 on a float32 has no fraction: adding it rounds half to even. The
	// conversion forbids a fused multiply-add.
	return uint8(math.Float32bits(float32(min(y, 1)*255) + 1<<23))
}
