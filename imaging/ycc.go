package imaging

import "image"

// Go reads the chroma of JPEG and WebP as blocks and, for WebP, in the wrong
// range. Here both are upsampled and converted as their own libraries do it.

// fromJPEG mirrors libjpeg's default: "fancy" upsampling (jdsample.c) and the
// conversion of jdcolor.c.
func fromJPEG(src image.Image, _ facts) rows {
	ycc, ok := src.(*image.YCbCr)
	if !ok {
		return rgb(src)
	}
	w, h := ycc.Rect.Dx(), ycc.Rect.Dy()
	across, down := 1, 1
	switch ycc.SubsampleRatio {
	case image.YCbCrSubsampleRatio444:
	case image.YCbCrSubsampleRatio422:
		across = 2
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio440:
		down = 2
	default: // 4:1:1 and 4:1:0, which libjpeg repeats as Go does
		return rgb(src)
	}
	cw, ch := (w+across-1)/across, (h+down-1)/down
	cbRow, crRow := make([]uint8, 2*cw), make([]uint8, 2*cw)
	sums := make([]int32, cw)
	return func(y int, out []uint8) {
		upsampleRow(cbRow, sums, ycc.Cb, ycc.CStride, ch, y, across, down)
		upsampleRow(crRow, sums, ycc.Cr, ycc.CStride, ch, y, across, down)
		luma := ycc.Y[y*ycc.YStride:][:w]
		for x, l := range luma {
			y, cb, cr := int32(l), int32(cbRow[x])-128, int32(crRow[x])-128
			out[4*x] = clamp(y + (91881*cr+1<<15)>>16)
			out[4*x+1] = clamp(y + (-22554*cb-46802*cr+1<<15)>>16)
			out[4*x+2] = clamp(y + (116130*cb+1<<15)>>16)
			out[4*x+3] = 255
		}
	}
}

// upsampleRow gives the chroma of row y: along each axis three parts of the
// nearer sample and one of the farther, edges repeated. sums has the plane's
// width; the plane has h rows.
func upsampleRow(out []uint8, sums []int32, plane []uint8, stride, h, y, across, down int) {
	n := len(sums)
	near := plane[y/down*stride:][:n]
	if down == 1 {
		for i, v := range near {
			sums[i] = int32(v)
		}
	} else {
		far := near
		if other := y/2 + 2*(y%2) - 1; 0 <= other && other < h {
			far = plane[other*stride:][:n]
		}
		for i, v := range near {
			sums[i] = 3*int32(v) + int32(far[i])
		}
	}
	switch {
	case across == 1 && down == 1:
		copy(out, near)
	case across == 1: // h1v2: rounding up and down by turns
		for i, s := range sums {
			out[i] = uint8((s + 1 + int32(y%2)) >> 2)
		}
	case n <= 2: // libjpeg repeats what is too narrow
		for i := range n {
			out[2*i], out[2*i+1] = plane[y/down*stride+i], plane[y/down*stride+i]
		}
	case down == 1: // h2v1
		for i, s := range sums {
			left, right := sums[max(i-1, 0)], sums[min(i+1, n-1)]
			out[2*i], out[2*i+1] = uint8((3*s+left+1)>>2), uint8((3*s+right+2)>>2)
		}
	default: // h2v2
		for i, s := range sums {
			left, right := sums[max(i-1, 0)], sums[min(i+1, n-1)]
			out[2*i], out[2*i+1] = uint8((3*s+left+8)>>4), uint8((3*s+right+7)>>4)
		}
	}
}

// fromWebP mirrors libwebp's default: its "fancy" upsampling (dsp/upsampling.c)
// and its conversion from studio range (dsp/yuv.h).
func fromWebP(src image.Image, _ facts) rows {
	var ycc *image.YCbCr
	switch src := src.(type) {
	case *image.YCbCr:
		ycc = src
	case *image.NYCbCrA:
		ycc = &src.YCbCr
	default:
		return rgb(src)
	}
	w, h := ycc.Rect.Dx(), ycc.Rect.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	return func(y int, out []uint8) {
		near := y / 2 * ycc.CStride
		far := near
		if other := y/2 + 2*(y%2) - 1; 0 <= other && other < ch {
			far = other * ycc.CStride
		}
		luma := ycc.Y[y*ycc.YStride:][:w]
		for x, l := range luma {
			i := x / 2
			j := max(0, min(i+2*(x%2)-1, cw-1)) // the farther column
			u := blend(ycc.Cb[near+i], ycc.Cb[near+j], ycc.Cb[far+i], ycc.Cb[far+j])
			v := blend(ycc.Cr[near+i], ycc.Cr[near+j], ycc.Cr[far+i], ycc.Cr[far+j])
			y := int32(l) * 19077 >> 8
			out[4*x] = clamp((y + v*26149>>8 - 14234) >> 6)
			out[4*x+1] = clamp((y - u*6419>>8 - v*13320>>8 + 8708) >> 6)
			out[4*x+2] = clamp((y + u*33050>>8 - 17685) >> 6)
			out[4*x+3] = 255
		}
	}
}

// blend is (9*near + 3*beside + 3*above + far) / 16 with libwebp's rounding.
func blend(near, beside, above, far uint8) int32 {
	n, b, a, f := int32(near), int32(beside), int32(above), int32(far)
	diagonal := (n + b + a + f + 8 + 2*(b+a)) >> 3
	return (diagonal + n) >> 1
}

func clamp(v int32) uint8 { return uint8(max(0, min(v, 255))) }
