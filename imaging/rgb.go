package imaging

import (
	"image"
	"image/color"
)

// rgb copies any picture to opaque pixels, alpha dropped and the colour under it
// kept. Sixteen bits become eight by the high byte, as in Pillow. Indices are
// checked here: a palette that is too short gives black, never a crash.
func rgb(src image.Image) *image.NRGBA {
	b := src.Bounds()
	dst := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		out := dst.Pix[y*dst.Stride:][:4*b.Dx()]
		switch src := src.(type) {
		case *image.NRGBA:
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 4, 1, 2)
		case *image.RGBA: // opaque: PNG without alpha, JPEG of RGB
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 4, 1, 2)
		case *image.NRGBA64:
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 8, 2, 4)
		case *image.RGBA64:
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 8, 2, 4)
		case *image.Gray:
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 1, 0, 0)
		case *image.Gray16:
			copyRGB(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], 2, 0, 0)
		case *image.Paletted:
			copyPaletted(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):], src.Palette)
		case *image.CMYK:
			copyCMYK(out, src.Pix[src.PixOffset(b.Min.X, b.Min.Y+y):])
		default:
			for x := range b.Dx() {
				c := nrgba(src.At(b.Min.X+x, b.Min.Y+y))
				out[4*x], out[4*x+1], out[4*x+2], out[4*x+3] = c.R, c.G, c.B, 255
			}
		}
	}
	return dst
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
