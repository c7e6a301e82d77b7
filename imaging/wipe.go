package imaging

import "image"

// Wipe overwrites a person's pixels when they are not needed any more. What
// decoders and encoders use inside and let go of is out of its reach.
func Wipe(pictures ...image.Image) {
	for _, picture := range pictures {
		switch p := picture.(type) {
		case *image.NRGBA:
			if p != nil {
				clear(p.Pix)
			}
		case *image.RGBA:
			clear(p.Pix)
		case *image.NRGBA64:
			clear(p.Pix)
		case *image.RGBA64:
			clear(p.Pix)
		case *image.Gray:
			clear(p.Pix)
		case *image.Gray16:
			clear(p.Pix)
		case *image.Paletted:
			clear(p.Pix)
		case *image.CMYK:
			clear(p.Pix)
		case *image.YCbCr:
			wipePlanes(p)
		case *image.NYCbCrA:
			wipePlanes(&p.YCbCr)
			clear(p.A)
		}
	}
}

func wipePlanes(p *image.YCbCr) {
	clear(p.Y)
	clear(p.Cb)
	clear(p.Cr)
}
