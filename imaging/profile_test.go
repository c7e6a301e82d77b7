package imaging_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"image"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/imgus/worker/imaging"
)

func coloured(t testing.TB, name string) (file, rgb []byte) {
	t.Helper()
	for _, c := range readGolden().Coloured {
		if c.Name == name {
			return c.File, c.RGB
		}
	}
	t.Fatalf("no coloured picture %s", name)
	return nil, nil
}

func decode(t testing.TB, file []byte) *image.NRGBA {
	t.Helper()
	img, err := imaging.Decode(context.Background(), file, imaging.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	checkForm(t, img)
	return img
}

// Colours are those of littlecms; pictures in sRGB stay as they are.
func TestColourEqualsLittleCMS(t *testing.T) {
	for _, c := range readGolden().Coloured {
		t.Run(c.Name, func(t *testing.T) {
			got := pixels(decode(t, c.File))
			if strings.HasPrefix(c.Name, "srgb") {
				if !bytes.Equal(got, c.RGB) {
					t.Error("sRGB has changed")
				}
				return
			}
			mean, most := difference(got, c.RGB)
			t.Logf("difference (CIEDE2000): mean %.3f, most %.3f", mean, most)
			if mean > 0.5 || most > 2 {
				t.Errorf("mean %.3f, most %.3f", mean, most)
			}
		})
	}
}

// profileOf takes the ICC profile out of a PNG.
func profileOf(t testing.TB, name string) []byte {
	t.Helper()
	file, _ := coloured(t, name)
	before, chunk, _ := bytes.Cut(file, []byte("iCCP"))
	chunk = chunk[:binary.BigEndian.Uint32(before[len(before)-4:])]
	r, err := zlib.NewReader(bytes.NewReader(chunk[bytes.IndexByte(chunk, 0)+2:]))
	if err != nil {
		t.Fatal(err)
	}
	icc, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return icc
}

// withProfile puts a profile into a PNG.
func withProfile(t testing.TB, plain, icc []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("x\x00\x00")
	z := zlib.NewWriter(&b)
	if _, err := z.Write(icc); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return withChunk(plain, "iCCP", b.Bytes())
}

// withChunk puts a chunk behind a PNG's header.
func withChunk(plain []byte, kind string, data []byte) []byte {
	const header = 8 + 25
	return bytes.Join([][]byte{plain[:header], pngChunk(kind, data), plain[header:]}, nil)
}

// segments puts parts of a profile into a JPEG.
func segments(plain []byte, parts ...string) []byte {
	out := append([]byte(nil), plain[:2]...)
	for _, p := range parts {
		p = "ICC_PROFILE\x00" + p
		out = append(binary.BigEndian.AppendUint16(append(out, 0xff, 0xe2), uint16(len(p)+2)), p...)
	}
	return append(out, plain[2:]...)
}

func TestProfileInSegments(t *testing.T) {
	plain, icc := goldenFile(t, "jpeg-444-27x18"), string(profileOf(t, "display-p3-png"))
	whole := pixels(decode(t, segments(plain, "\x01\x01"+icc)))
	if bytes.Equal(whole, pixels(decode(t, plain))) {
		t.Fatal("the profile changes nothing")
	}
	a, b := icc[:100], icc[100:]
	if got := pixels(decode(t, segments(plain, "\x01\x02"+a, "\x02\x02"+b))); !bytes.Equal(got, whole) {
		t.Error("in two segments it is another")
	}
	for name, parts := range map[string][]string{
		"one missing": {"\x02\x02" + b}, "out of order": {"\x02\x02" + b, "\x01\x02" + a}, "twice": {"\x01\x01" + a, "\x01\x01" + b}, "empty": {""},
	} {
		if got := pixels(decode(t, segments(plain, parts...))); !bytes.Equal(got, pixels(decode(t, plain))) {
			t.Errorf("%s: it is not passed over", name)
		}
	}
}

// What cannot be used changes nothing: broken profiles, those with look-up tables,
// those of another kind of picture, and the chunks that we do not honour.
func TestProfilesPassedOver(t *testing.T) {
	plain, grey := goldenFile(t, "png-rgb"), goldenFile(t, "png-l")
	p3 := profileOf(t, "display-p3-png")
	without := func(tag string) []byte { return bytes.Replace(p3, []byte(tag), []byte("xxxx"), 1) }
	edited := func(at int, s string) []byte {
		return append(append(append([]byte(nil), p3[:at]...), s...), p3[at+len(s):]...)
	}
	for name, file := range map[string][]byte{
		"look-up tables alone":   withProfile(t, plain, without("rXYZ")),
		"no curve":               withProfile(t, plain, without("gTRC")),
		"cut":                    withProfile(t, plain, p3[:len(p3)/2]),
		"of Lab":                 withProfile(t, plain, edited(20, "Lab ")),
		"of CMYK":                withProfile(t, plain, edited(16, "CMYK")),
		"no signature":           withProfile(t, plain, edited(36, "xxxx")),
		"grey of colour":         withProfile(t, plain, profileOf(t, "grey-18-png")),
		"gigantic":               withProfile(t, plain, append(append([]byte(nil), p3...), make([]byte, 2<<20)...)),
		"not compressed":         withChunk(plain, "iCCP", append([]byte("x\x00\x00"), p3...)),
		"no name":                withChunk(plain, "iCCP", []byte("x")),
		"gamma":                  withChunk(plain, "gAMA", []byte{0, 1, 0x86, 0xa0}),
		"cICP of HDR":            withChunk(plain, "cICP", []byte{9, 16, 0, 1}),
		"sRGB by cICP before P3": withChunk(withProfile(t, plain, p3), "cICP", []byte{1, 13, 0, 1}),
	} {
		if got := pixels(decode(t, file)); !bytes.Equal(got, pixels(decode(t, plain))) {
			t.Errorf("%s: the pixels change", name)
		}
	}
	if got := pixels(decode(t, withProfile(t, grey, p3))); !bytes.Equal(got, pixels(decode(t, grey))) {
		t.Error("a colour profile of a grey picture: the pixels change")
	}
}

func TestCICP(t *testing.T) {
	plain, _ := coloured(t, "srgb-png")
	_, want := coloured(t, "display-p3-png")
	got := pixels(decode(t, withChunk(plain, "cICP", []byte{12, 13, 0, 1})))
	if mean, most := difference(got, want); mean > 0.5 || most > 2 {
		t.Errorf("Display P3 by cICP differs from that by ICC: mean %.3f, most %.3f", mean, most)
	}
}

// FuzzICC puts any bytes where a profile is: they change colours or do nothing,
// and are never an error.
func FuzzICC(f *testing.F) {
	for _, c := range readGolden().Coloured {
		if strings.HasSuffix(c.Name, "png") {
			f.Add(profileOf(f, c.Name))
		}
	}
	colour, grey := goldenFile(f, "webp-lossless"), goldenFile(f, "jpeg-l")
	f.Fuzz(func(t *testing.T, icc []byte) {
		if len(icc) > 1<<15 {
			return
		}
		decode(t, segments(grey, "\x01\x01"+string(icc)))
		chunk := append(binary.LittleEndian.AppendUint32([]byte("ICCP"), uint32(len(icc))), icc...)
		if len(icc)%2 == 1 {
			chunk = append(chunk, 0)
		}
		decode(t, riff(string(chunk)+string(colour[12:])))
	})
}

func BenchmarkProfile(b *testing.B) {
	// A megapixel of noise: 12 of them are a phone's photo.
	plain, err := imaging.Encode(draw("noise", 1024, 1024), "png", 90)
	if err != nil {
		b.Fatal(err)
	}
	for name, file := range map[string][]byte{"without": plain, "with": withProfile(b, plain, profileOf(b, "display-p3-png"))} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := imaging.Decode(context.Background(), file, imaging.DefaultLimits()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// difference is the mean and the largest CIEDE2000 of two sRGB pictures.
func difference(a, b []byte) (mean, most float64) {
	for i := 0; i < len(a); i += 3 {
		d := ciede2000(lab(a[i:]), lab(b[i:]))
		mean, most = mean+d, max(most, d)
	}
	return mean / float64(len(a)/3), most
}

func lab(rgb []byte) [3]float64 {
	var l [3]float64
	for i := range l {
		if l[i] = float64(rgb[i]) / 255; l[i] <= 0.04045 {
			l[i] /= 12.92
		} else {
			l[i] = math.Pow((l[i]+0.055)/1.055, 2.4)
		}
	}
	f := func(t float64) float64 {
		if t > 216.0/24389 {
			return math.Cbrt(t)
		}
		return (24389.0/27*t + 16) / 116
	}
	x := f((0.4124564*l[0] + 0.3575761*l[1] + 0.1804375*l[2]) / 0.95047)
	y := f(0.2126729*l[0] + 0.7151522*l[1] + 0.0721750*l[2])
	z := f((0.0193339*l[0] + 0.1191920*l[1] + 0.9503041*l[2]) / 1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// ciede2000 is Sharma's formulation (2005).
func ciede2000(p, q [3]float64) float64 {
	const degree = math.Pi / 180
	c7 := math.Pow((math.Hypot(p[1], p[2])+math.Hypot(q[1], q[2]))/2, 7)
	g := 1 + 0.5*(1-math.Sqrt(c7/(c7+math.Pow(25, 7))))
	c1, c2 := math.Hypot(g*p[1], p[2]), math.Hypot(g*q[1], q[2])
	hue := func(b, a float64) float64 {
		if h := math.Atan2(b, a); h < 0 {
			return h + 2*math.Pi
		} else {
			return h
		}
	}
	h1, h2 := hue(p[2], g*p[1]), hue(q[2], g*q[1])
	dh, sum := h2-h1, h1+h2
	switch {
	case c1*c2 == 0:
		dh = 0
	case dh > math.Pi:
		dh -= 2 * math.Pi
	case dh < -math.Pi:
		dh += 2 * math.Pi
	}
	h := sum / 2
	switch {
	case c1*c2 == 0:
		h = sum
	case math.Abs(h1-h2) > math.Pi && sum < 2*math.Pi:
		h += math.Pi
	case math.Abs(h1-h2) > math.Pi:
		h -= math.Pi
	}
	l, c := (p[0]+q[0])/2, (c1+c2)/2
	t := 1 - 0.17*math.Cos(h-30*degree) + 0.24*math.Cos(2*h) + 0.32*math.Cos(3*h+6*degree) - 0.20*math.Cos(4*h-63*degree)
	c7 = math.Pow(c, 7)
	far := (h/degree - 275) / 25
	turn := -2 * math.Sqrt(c7/(c7+math.Pow(25, 7))) * math.Sin(60*degree*math.Exp(-far*far))
	dl := (q[0] - p[0]) / (1 + 0.015*(l-50)*(l-50)/math.Sqrt(20+(l-50)*(l-50)))
	dc := (c2 - c1) / (1 + 0.045*c)
	dH := 2 * math.Sqrt(c1*c2) * math.Sin(dh/2) / (1 + 0.015*c*t)
	return math.Sqrt(dl*dl + dc*dc + dH*dH + turn*dc*dH)
}
