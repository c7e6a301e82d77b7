package imaging

import (
	"encoding/binary"
	"math"
	"slices"
)

// maxProfile bounds an ICC profile. One made of curves and a matrix has a few
// kilobytes.
const maxProfile = 1 << 20

// parseProfile reads an ICC profile (ICC.1:2022) made of curves and a matrix, or
// of one curve for grey, for a picture of the space: "RGB " or "GRAY". It is nil
// for everything else: what cannot be read does not make a photo unreadable.
func parseProfile(icc []byte, space string) *profile {
	const header = 128
	if len(icc) < header+4 || len(icc) > maxProfile || string(icc[36:40]) != "acsp" || string(icc[16:20]) != space {
		return nil
	}
	t := tags{icc: icc, table: icc[header+4:], count: binary.BigEndian.Uint32(icc[header:])}
	connection := string(icc[20:24])
	if space == "GRAY" {
		grey := t.tone("kTRC")
		switch {
		case grey == nil:
			return nil
		case connection == "Lab ": // the curve gives lightness
			lightness := grey
			grey = func(x float64) float64 { return luminance(lightness(x)) }
		case connection != "XYZ ":
			return nil
		}
		return newProfile([3]tone{grey, grey, grey}, identity)
	}
	if space != "RGB " || connection != "XYZ " {
		return nil
	}
	var tones [3]tone
	var columns [3][3]float64
	for c, name := range []string{"r", "g", "b"} {
		xyz, ok := t.xyz(name + "XYZ")
		if tones[c] = t.tone(name + "TRC"); tones[c] == nil || !ok {
			return nil
		}
		columns[c] = xyz
	}
	r, g, b := columns[0], columns[1], columns[2]
	return newProfile(tones, product(fromXYZ, [9]float64{r[0], g[0], b[0], r[1], g[1], b[1], r[2], g[2], b[2]}))
}

// luminance is CIE 1976's, of a lightness in [0, 1].
func luminance(l float64) float64 {
	if l <= 0.08 {
		return l * 100 / 903.3
	}
	f := (l + 0.16) / 1.16
	return f * f * f
}

// tags is a profile's table of tags, each of twelve bytes: signature, offset and
// size.
type tags struct {
	icc, table []byte
	count      uint32
}

// data gives a tag that has the type, from its type on, or nil.
func (t tags) data(name string, kinds ...string) []byte {
	const most = 100
	for i := range int(min(t.count, most)) {
		if len(t.table) < 12*(i+1) {
			return nil
		}
		entry := t.table[12*i:]
		offset, size := int64(binary.BigEndian.Uint32(entry[4:])), int64(binary.BigEndian.Uint32(entry[8:]))
		if string(entry[:4]) != name {
			continue
		}
		if size < 12 || offset+size > int64(len(t.icc)) {
			return nil
		}
		data := t.icc[offset : offset+size]
		if slices.Contains(kinds, string(data[:4])) {
			return data
		}
		return nil
	}
	return nil
}

func fixed(b []byte) float64 { // s15Fixed16Number
	return float64(int32(binary.BigEndian.Uint32(b))) / 65536
}

func (t tags) xyz(name string) (v [3]float64, ok bool) {
	b := t.data(name, "XYZ ")
	if len(b) < 20 {
		return v, false
	}
	return [3]float64{fixed(b[8:]), fixed(b[12:]), fixed(b[16:])}, true
}

func (t tags) tone(name string) tone {
	b := t.data(name, "curv", "para")
	switch {
	case b == nil:
		return nil
	case string(b[:4]) == "para":
		return parametric(b)
	default:
		return sampled(b)
	}
}

// sampled is a curve of values at equal distances (10.6).
func sampled(b []byte) tone {
	n := int64(binary.BigEndian.Uint32(b[8:]))
	values := b[12:]
	switch {
	case n == 0:
		return func(x float64) float64 { return x }
	case 2*n > int64(len(values)):
		return nil
	case n == 1: // a gamma in u8Fixed8Number
		gamma := float64(binary.BigEndian.Uint16(values)) / 256
		return func(x float64) float64 { return math.Pow(x, gamma) }
	}
	at := func(i int) float64 { return float64(binary.BigEndian.Uint16(values[2*i:])) / 65535 }
	last := int(n - 1)
	return func(x float64) float64 {
		x *= float64(last)
		i := min(int(x), last-1)
		part := x - float64(i)
		return at(i)*(1-part) + at(i+1)*part
	}
}

// parametric is a curve by formula (10.18).
func parametric(b []byte) tone {
	kind := binary.BigEndian.Uint16(b[8:])
	counts := []int{1, 3, 4, 5, 7}
	if int(kind) >= len(counts) || len(b) < 12+4*counts[kind] {
		return nil
	}
	var v [7]float64
	for i := range counts[kind] {
		v[i] = fixed(b[12+4*i:])
	}
	g, a, bb, c, d, e, f := v[0], v[1], v[2], v[3], v[4], v[5], v[6]
	power := func(x float64) float64 { return math.Pow(a*x+bb, g) }
	switch kind {
	case 0:
		return func(x float64) float64 { return math.Pow(x, g) }
	case 1, 2: // c is 0 in the first
		return func(x float64) float64 {
			if a*x+bb >= 0 {
				return power(x) + c
			}
			return c
		}
	default: // e and f are 0 in the fourth
		return func(x float64) float64 {
			if x >= d {
				return power(x) + e
			}
			return c*x + f
		}
	}
}
