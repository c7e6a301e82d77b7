package imaging

import (
	"image"
	"image/color"
)

// rgb gives any picture as opaque pixels, alpha dropped and the colour under it
// kept. Sixteen bits become eight by the high byte, as in Pillow. Indices are
// checked here: a palette that is too short gives black, never a crash.
func rgb(src image.Image) rows {
	b := src.Bounds()
	row := func(pix []uint8, size, green, blue int) rows {
		return func(y int, out []uint8) {
			src, _ := src.(interface{ PixOffset(x, y int) int })
			copyRGB(out, pix[src.PixOffset(b.Min.X, b.Min.Y+y):], size, green, blue)
		}
	}
	switch src := src.(type) {
	case *image.NRGBA:
		return row(src.Pix, 4, 1, 2)
	case *image.RGBA: // opaque: PNG without alpha, JPEG of RGB
		return row(src.Pix, 4, 1, 2)
	case *image.NRGBA64:
		return row(src.Pix, 8, 2, 4)
	case *image.RGBA64:
		return row(src.Pix, 8, 2, 4)
	case *image.Gray:
		return row(src.Pix, 1, 0, 0)
	case *image.Gray16:
		return row(src.Pix, 2, 0, 0)
	case *image.Paletted:
		return func(y int, out []uint8) { copyPaletted(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], src.Palette) }
	case *image.CMYK:
		return func(y int, out []uint8) { copyCMYK(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):]) }
	default:
		return func(y int, out []uint8) {
			for x := range b.Dx() {
				c := nrgba(src.At(b.Min.X+x, b.Min.Y+y))
				out[4*x], out[4*x+1], out[4*x+2], out[4*x+3] = c.R, c.G, c.B, 255
			}
		}
	}
}

// opaque makes the result of a picture that has its form already, where it lies;
// nil where it has not.
func opaque(src image.Image) *image.NRGBA {
	var img *image.NRGBA
	switch src := src.(type) {
	case *image.NRGBA:
		img = src
	case *image.RGBA: // opaque, as above
		img = &image.NRGBA{Pix: src.Pix, Stride: src.Stride, Rect: src.Rect}
	}
	if img == nil || img.Rect.Min != (image.Point{}) || img.Stride != 4*img.Rect.Dx() {
		return nil
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	return img
}

func nrgba(c color.Color) color.NRGBA {
	n, _ := color.NRGBAModel.Convert(c).(color.NRGBA)
	return n
}

// copyRGB takes from each pixel of size bytes those at 0, green and blue.
func copyRGB(out, in []uint8, size, green, blue int) {
	for x, i := 0, 0; x < len(out); x, i = x+4, i+size {
		out[x], out[x+1], out[x+2], out[x+3] = in[i], in[i+green], in[i+blue], 255
	}
}

func copyPaletted(out, in []uint8, palette color.Palette) {
	var colors [256]color.NRGBA
	for i := range min(len(palette), len(colors)) {
		colors[i] = nrgba(palette[i])
	}
	for x := 0; x < len(out); x += 4 {
		c := colors[in[x/4]]
		out[x], out[x+1], out[x+2], out[x+3] = c.R, c.G, c.B, 255
	}
}

// copyCMYK mirrors Pillow's cmyk2rgb (Convert.c).
func copyCMYK(out, in []uint8) {
	for x := 0; x < len(out); x += 4 {
		white := 255 - int(in[x+3])
		for i := range 3 {
			t := int(in[x+i])*white + 128
			out[x+i] = uint8(max(0, white-((t>>8)+t)>>8))
		}
		out[x+3] = 255
	}
}
