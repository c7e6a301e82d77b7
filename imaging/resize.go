package imaging

import (
	"image"
	"math"
)

// Resize scales src to w x h pixels by Pillow's LANCZOS filter, equal to it in
// every pixel (ImagingResample of Resample.c): two passes, each rounded to 8
// bits, with weights in 22-bit fixed point. Src counts as opaque; w and h must be
// at least 1. The same size gives src itself.
func Resize(src *image.NRGBA, w, h int) *image.NRGBA {
	size := src.Rect.Size()
	rows := func(src *image.NRGBA) *image.NRGBA {
		if w == size.X {
			return src
		}
		return resizeRows(src, lanczos(size.X, w))
	}
	columns := func(src *image.NRGBA) *image.NRGBA {
		if h == size.Y {
			return src
		}
		return resizeColumns(src, lanczos(size.Y, h))
	}
	// Pillow 13 takes the columns first where the height loses far more than the
	// width; earlier versions never do, which rounds a few pixels otherwise.
	first, second := rows, columns
	if lost := size.Y - h; lost > 0 && lost > 2*(size.X-w) {
		first, second = columns, rows
	}
	between := first(src)
	dst := second(between)
	if between != src && between != dst {
		Wipe(between)
	}
	return dst
}

// precision leaves 8 bits for the pixel and 2 for weights that sum to more than
// one in between.
const (
	precision = 32 - 8 - 2
	half      = 1 << (precision - 1)
)

// taps say how one output pixel is made: of input pixels from first on.
type taps struct {
	first   int
	weights []int32
}

// lanczos mirrors precompute_coeffs and normalize_coeffs_8bpc.
func lanczos(in, out int) []taps {
	const lobes = 3
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := lobes * stretch
	step := 1 / stretch

	all := make([]taps, out)
	weights := make([]float64, 0, 2*int(math.Ceil(support))+1)
	for i := range all {
		// The conversions forbid fused multiply-add, which rounds otherwise.
		center := float64((float64(i) + 0.5) * scale)
		first := max(int(center-support+0.5), 0)
		end := min(int(center+support+0.5), in)
		weights = weights[:0]
		sum := 0.0
		for x := first; x < end; x++ {
			w := window(float64((float64(x)-center+0.5)*step), lobes)
			weights = append(weights, w)
			sum += w
		}
		all[i] = taps{first, make([]int32, len(weights))}
		for x, w := range weights {
			if sum != 0 {
				w /= sum
			}
			all[i].weights[x] = int32(math.Round(float64(w * (1 << precision))))
		}
	}
	return all
}

// window is the Lanczos function, sinc(x) sinc(x/a) inside of [-a, a).
func window(x, a float64) float64 {
	if x < -a || x >= a {
		return 0
	}
	return float64(sinc(x) * sinc(x/a))
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	x *= math.Pi
	return math.Sin(x) / x
}

func resizeRows(src *image.NRGBA, columns []taps) *image.NRGBA {
	h := src.Rect.Dy()
	dst := image.NewNRGBA(image.Rect(0, 0, len(columns), h))
	for y := range h {
		in, out := src.Pix[y*src.Stride:], dst.Pix[y*dst.Stride:]
		for x, t := range columns {
			var r, g, b int32 = half, half, half
			p := in[4*t.first:][:4*len(t.weights)]
			for _, w := range t.weights {
				r += w * int32(p[0])
				g += w * int32(p[1])
				b += w * int32(p[2])
				p = p[4:]
			}
			o := out[4*x:][:4]
			o[0], o[1], o[2], o[3] = clamp(r>>precision), clamp(g>>precision), clamp(b>>precision), 255
		}
	}
	return dst
}

func resizeColumns(src *image.NRGBA, rows []taps) *image.NRGBA {
	w := src.Rect.Dx()
	dst := image.NewNRGBA(image.Rect(0, 0, w, len(rows)))
	sums := make([]int32, 4*w)
	for y, t := range rows {
		for i := range sums {
			sums[i] = half
		}
		for i, weight := range t.weights {
			in := src.Pix[(t.first+i)*src.Stride:][:len(sums)]
			for x, v := range in {
				sums[x] += weight * int32(v)
			}
		}
		out := dst.Pix[y*dst.Stride:][:len(sums)]
		for x, s := range sums {
			out[x] = clamp(s >> precision)
		}
		for x := 3; x < len(out); x += 4 {
			out[x] = 255
		}
	}
	return dst
}
