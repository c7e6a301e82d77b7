package imaging

import (
	"math"
	"sync"
)

// profile tells how a picture's values become sRGB: through a curve for each
// channel to linear light, a matrix, and sRGB's own curve, where what sRGB cannot
// show is clipped (relative colorimetric rendering). Nil leaves them alone.
type profile struct {
	linear [3][256]float32
	matrix [9]float32 // row by row
}

// tone maps a device value to linear light, both in [0, 1].
type tone func(float64) float64

// fromXYZ leads from ICC's connection space, CIE XYZ under D50, to linear sRGB
// (IEC 61966-2-1 adapted by Bradford, in Lindbloom's figures).
var fromXYZ = [9]float64{
	3.1338561, -1.6168667, -0.4906146,
	-0.9787684, 1.9161415, 0.0334540,
	0.0719453, -0.2289914, 1.4052427,
}

var identity = [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}

// displayP3 is what phones take photos in, as PNG's cICP may name it: P3's
// primaries with sRGB's white and curve.
var displayP3 = sync.OnceValue(func() *profile {
	return newProfile([3]tone{srgbTone, srgbTone, srgbTone}, product(fromXYZ, [9]float64{
		0.51512, 0.29198, 0.15710,
		0.24120, 0.69225, 0.06657,
		-0.00105, 0.04189, 0.78407,
	}))
})

func srgbTone(x float64) float64 {
	if x <= 0.04045 {
		return x / 12.92
	}
	return math.Pow((x+0.055)/1.055, 2.4)
}

func product(a, b [9]float64) (c [9]float64) {
	for i := range c {
		for k := range 3 {
			c[i] += a[i/3*3+k] * b[3*k+i%3]
		}
	}
	return c
}

// newProfile is nil where the values mean sRGB already, so that those pictures
// stay as they are, bit by bit.
func newProfile(tones [3]tone, matrix [9]float64) *profile {
	p := &profile{}
	for c, t := range tones {
		for v := range p.linear[c] {
			y := t(float64(v) / 255)
			if !(y > 0) { // NaN too
				y = 0
			}
			p.linear[c][v] = float32(min(y, 1))
		}
	}
	for i, v := range matrix {
		p.matrix[i] = float32(v)
	}
	if p.isSRGB() {
		return nil
	}
	return p
}

// isSRGB reports whether no value of a grid changes by more than vendors' sRGB
// profiles differ among themselves.
func (p *profile) isSRGB() bool {
	const step, most = 15, 2
	for r := 0; r < 256; r += step {
		for g := 0; g < 256; g += step {
			for b := 0; b < 256; b += step {
				pixel := []uint8{uint8(r), uint8(g), uint8(b), 255}
				p.convert(pixel)
				if max(distance(pixel[0], r), distance(pixel[1], g), distance(pixel[2], b)) > most {
					return false
				}
			}
		}
	}
	return true
}

func distance(a uint8, b int) int { return max(int(a)-b, b-int(a)) }

// convert changes RGBA pixels in place.
func (p *profile) convert(pix []uint8) {
	if p == nil {
		return
	}
	encode, m := srgbLevels(), &p.matrix
	for i := 0; i+4 <= len(pix); i += 4 {
		at := pix[i:][:4]
		r, g, b := p.linear[0][at[0]], p.linear[1][at[1]], p.linear[2][at[2]]
		at[0] = encode[light(m[0]*r+m[1]*g+m[2]*b)]
		at[1] = encode[light(m[3]*r+m[4]*g+m[5]*b)]
		at[2] = encode[light(m[6]*r+m[7]*g+m[8]*b)]
	}
}

// lightLevels are so many that two neighbours differ by a fifth of an sRGB level
// where its curve is steepest.
const lightLevels = 1 << 14

func light(x float32) int {
	return max(0, min(int(x*(lightLevels-1)+0.5), lightLevels-1)) // of integers it is faster
}

var srgbLevels = sync.OnceValue(func() *[lightLevels]uint8 {
	levels := new([lightLevels]uint8)
	for i := range levels {
		x := float64(i) / (lightLevels - 1)
		if x <= 0.0031308 {
			x *= 12.92
		} else {
			x = 1.055*math.Pow(x, 1/2.4) - 0.055
		}
		levels[i] = uint8(x*255 + 0.5)
	}
	return levels
})
