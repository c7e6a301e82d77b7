package imaging

import (
	"bytes"
	"image"

	"github.com/bep/imagemeta"
	dimaging "github.com/disintegration/imaging"
)

// orientation reads the Orientation tag of an EXIF block's first directory. It
// is 1, upright, where there is none or the block is broken.
func orientation(exif []byte) (o int) {
	o = 1
	if len(exif) == 0 {
		return o
	}
	defer func() {
		if recover() != nil {
			o = 1
		}
	}()
	_, err := imagemeta.Decode(imagemeta.Options{
		R:            bytes.NewReader(exif),
		ImageFormat:  imagemeta.TIFF, // which is what an EXIF block is
		Sources:      imagemeta.EXIF,
		LimitNumTags: 1000,
		LimitTagSize: 16,
		ShouldHandleTag: func(t imagemeta.TagInfo) bool {
			return t.Namespace == "IFD0" && t.Tag == "Orientation"
		},
		HandleTag: func(t imagemeta.TagInfo) error {
			if v, ok := t.Value.(uint16); ok && 1 <= v && v <= 8 {
				o = int(v)
			}
			return imagemeta.ErrStopWalking
		},
	})
	if err != nil {
		return 1
	}
	return o
}

// upright undoes an EXIF orientation, as PIL's ImageOps.exif_transpose does.
func upright(img *image.NRGBA, orientation int) *image.NRGBA {
	switch orientation {
	case 2:
		return dimaging.FlipH(img)
	case 3:
		return dimaging.Rotate180(img)
	case 4:
		return dimaging.FlipV(img)
	case 5:
		return dimaging.Transpose(img)
	case 6:
		return dimaging.Rotate270(img) // counter-clockwise
	case 7:
		return dimaging.Transverse(img)
	case 8:
		return dimaging.Rotate90(img)
	}
	return img
}

// Crop gives the part of img inside r as a picture of its own.
func Crop(img *image.NRGBA, r image.Rectangle) *image.NRGBA { return dimaging.Crop(img, r) }
