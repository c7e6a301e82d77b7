package imaging

import "image"

// Recompress gives the pixels that libjpeg gives back of a picture that it wrote
// as JPEG of the quality (1 to 100), chroma halved both ways: PIL's save and open
// with their defaults. Classifiers that were trained on such pixels see others
// differently. Everything but the coding of the coefficients, which loses
// nothing, is done as libjpeg does it (jccolor.c, jcsample.c, jfdctint.c,
// jcdctmgr.c, jidctint.c), bit by bit. Src counts as opaque.
func Recompress(src *image.NRGBA, quality int) *image.NRGBA {
	size := src.Rect.Size()
	// Whole blocks of chroma; what lies beyond the picture repeats its edge.
	w, h := (size.X+15)&^15, (size.Y+15)&^15
	ycc := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	defer wipePlanes(ycc)
	convertYCC(ycc, src)
	luma, chroma := scaled(&lumaQuant, quality), scaled(&chromaQuant, quality)
	requantize(ycc.Y, ycc.YStride, &luma)
	requantize(ycc.Cb, ycc.CStride, &chroma)
	requantize(ycc.Cr, ycc.CStride, &chroma)
	ycc.Rect = image.Rectangle{Max: size}
	return fromJPEG(ycc, facts{}).picture(size)
}

// convertYCC fills the planes, chroma as the mean of four pixels, rounded up and
// down by turns.
func convertYCC(dst *image.YCbCr, src *image.NRGBA) {
	size := src.Rect.Size()
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	cb, cr := make([]uint8, w*h), make([]uint8, w*h)
	defer clear(cb)
	defer clear(cr)
	for y := range h {
		row := src.Pix[min(y, size.Y-1)*src.Stride:]
		for x := range w {
			p := row[4*min(x, size.X-1):]
			r, g, b := int32(p[0]), int32(p[1]), int32(p[2])
			dst.Y[y*dst.YStride+x] = uint8((19595*r + 38470*g + 7471*b + 1<<15) >> 16)
			cb[y*w+x] = uint8((-11059*r - 21709*g + 32768*b + 128<<16 + 1<<15 - 1) >> 16)
			cr[y*w+x] = uint8((32768*r - 27439*g - 5329*b + 128<<16 + 1<<15 - 1) >> 16)
		}
	}
	last := (size.Y - 1) / 2 // the rows below are its copies
	for y := range h / 2 {
		for x := range w / 2 {
			i, bias := 2*min(y, last)*w+2*x, 1+x%2
			mean := func(plane []uint8) uint8 {
				return uint8((int(plane[i]) + int(plane[i+1]) + int(plane[i+w]) + int(plane[i+w+1]) + bias) >> 2)
			}
			dst.Cb[y*dst.CStride+x], dst.Cr[y*dst.CStride+x] = mean(cb), mean(cr)
		}
	}
}

// The tables of ITU-T T.81, annex K.1.
var (
	lumaQuant = [64]int32{
		16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
		18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
	}
	chromaQuant = [64]int32{
		17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
		99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
	}
)

// scaled is libjpeg's jpeg_set_quality.
func scaled(table *[64]int32, quality int) (out [64]int32) {
	scale := int32(200 - 2*quality)
	if quality < 50 {
		scale = int32(5000 / quality)
	}
	for i, v := range table {
		out[i] = max(1, min((v*scale+50)/100, 255))
	}
	return out
}

// requantize takes each block of 8 x 8 to its coefficients, rounds them to the
// table's steps, and takes it back.
func requantize(plane []uint8, stride int, table *[64]int32) {
	var block [64]int32
	for y := 0; y < len(plane)/stride; y += 8 {
		for x := 0; x < stride; x += 8 {
			for i := range block {
				block[i] = int32(plane[(y+i/8)*stride+x+i%8]) - 128
			}
			forwardDCT(&block)
			for i, step := range table {
				// The transform's output is eight times too large.
				if c := block[i]; c < 0 {
					block[i] = -((-c + 4*step) / (8 * step)) * step
				} else {
					block[i] = (c + 4*step) / (8 * step) * step
				}
			}
			inverseDCT(&block)
			for i, v := range block {
				plane[(y+i/8)*stride+x+i%8] = clamp(v + 128)
			}
		}
	}
	clear(block[:])
}

// The cosines of libjpeg's accurate integer transforms (Loeffler, Ligtenberg and
// Moschytz), in 13 bits.
const (
	dctBits, dctPass                        = 13, 2
	c0298, c0390, c0541, c0765, c0899       = 2446, 3196, 4433, 6270, 7373
	c1175, c1501, c1847, c1961, c2053       = 9633, 12299, 15137, 16069, 16819
	c2562, c3072                      int32 = 20995, 25172
)

func descale(v int32, bits int) int32 { return (v + 1<<(bits-1)) >> bits }

// odd is the part that both transforms share.
func odd(t0, t1, t2, t3 int32) (a, b, c, d int32) {
	z1, z2, z3, z4 := t0+t3, t1+t2, t0+t2, t1+t3
	z5 := (z3 + z4) * c1175
	z1, z2, z3, z4 = -z1*c0899, -z2*c2562, -z3*c1961+z5, -z4*c0390+z5
	return t0*c0298 + z1 + z3, t1*c2053 + z2 + z4, t2*c3072 + z2 + z3, t3*c1501 + z1 + z4
}

func forwardDCT(b *[64]int32) {
	pass := func(i, step int, even func(int32) int32, bits int) {
		at := func(k int) *int32 { return &b[i+k*step] }
		t0, t7 := *at(0)+*at(7), *at(0)-*at(7)
		t1, t6 := *at(1)+*at(6), *at(1)-*at(6)
		t2, t5 := *at(2)+*at(5), *at(2)-*at(5)
		t3, t4 := *at(3)+*at(4), *at(3)-*at(4)
		t10, t13, t11, t12 := t0+t3, t0-t3, t1+t2, t1-t2
		*at(0), *at(4) = even(t10+t11), even(t10-t11)
		z := (t12 + t13) * c0541
		*at(2), *at(6) = descale(z+t13*c0765, bits), descale(z-t12*c1847, bits)
		o7, o5, o3, o1 := odd(t4, t5, t6, t7)
		*at(7), *at(5), *at(3), *at(1) = descale(o7, bits), descale(o5, bits), descale(o3, bits), descale(o1, bits)
	}
	for i := range 8 {
		pass(8*i, 1, func(v int32) int32 { return v << dctPass }, dctBits-dctPass)
	}
	for i := range 8 {
		pass(i, 8, func(v int32) int32 { return descale(v, dctPass) }, dctBits+dctPass)
	}
}

func inverseDCT(b *[64]int32) {
	pass := func(i, step, bits int) {
		at := func(k int) *int32 { return &b[i+k*step] }
		z := (*at(2) + *at(6)) * c0541
		t2, t3 := z-*at(6)*c1847, z+*at(2)*c0765
		t0, t1 := (*at(0)+*at(4))<<dctBits, (*at(0)-*at(4))<<dctBits
		t10, t13, t11, t12 := t0+t3, t0-t3, t1+t2, t1-t2
		o0, o1, o2, o3 := odd(*at(7), *at(5), *at(3), *at(1))
		for k, pair := range [4][2]int32{{t10, o3}, {t11, o2}, {t12, o1}, {t13, o0}} {
			*at(k), *at(7 - k) = descale(pair[0]+pair[1], bits), descale(pair[0]-pair[1], bits)
		}
	}
	for i := range 8 {
		pass(i, 8, dctBits-dctPass)
	}
	for i := range 8 {
		pass(8*i, 1, dctBits+dctPass+3)
	}
}
