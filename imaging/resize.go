package imaging

import (
	"image"
	"math"
)

// Filter is one of Pillow's resampling filters.
type Filter struct {
	support float64
	weight  func(x float64) float64
}

// The filters, by Pillow's names.
var (
	Box      = Filter{0.5, box}
	Bilinear = Filter{1, triangle}
	Bicubic  = Filter{2, cubic}
	Lanczos  = Filter{3, func(x float64) float64 { return window(x, 3) }}
)

// Resize scales src by Pillow's LANCZOS filter: see ResizeBy.
func Resize(src *image.NRGBA, w, h int) *image.NRGBA { return ResizeBy(src, w, h, Lanczos) }

// ResizeBy scales src to w x h pixels by one of Pillow's filters, equal to it in
// every pixel (ImagingResample of Resample.c): two passes, each rounded to 8
// bits, with weights in 22-bit fixed point. Src counts as opaque; w and h must be
// at least 1. The same size gives src itself.
func ResizeBy(src *image.NRGBA, w, h int, f Filter) *image.NRGBA {
	size := src.Rect.Size()
	rows := func(src *image.NRGBA) *image.NRGBA {
		if w == size.X {
			return src
		}
		return resizeRows(src, f.taps(size.X, w))
	}
	columns := func(src *image.NRGBA) *image.NRGBA {
		if h == size.Y {
			return src
		}
		return resizeColumns(src, f.taps(size.Y, h))
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

// taps mirrors precompute_coeffs and normalize_coeffs_8bpc.
func (f Filter) taps(in, out int) []taps {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := f.support * stretch
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
			w := f.weight(float64((float64(x) - center + 0.5) * step))
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

func box(x float64) float64 {
	if x > -0.5 && x <= 0.5 {
		return 1
	}
	return 0
}

func triangle(x float64) float64 { return max(1-math.Abs(x), 0) }

func cubic(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return float64(float64(float64(float64((a+2)*x)-(a+3))*x)*x) + 1
	case x < 2:
		return float64(float64(float64(float64(float64(float64(x-5)*x)+8)*x)-4) * a)
	default:
		return 0
	}
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
