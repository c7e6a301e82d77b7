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

// upright undoes an EXIF orientation, as PIL's ImageOps.exif_transpose does. What
// lay on its side is wiped.
func upright(img *image.NRGBA, orientation int) *image.NRGBA {
	turn, ok := map[int]func(image.Image) *image.NRGBA{
		2: dimaging.FlipH,
		3: dimaging.Rotate180,
		4: dimaging.FlipV,
		5: dimaging.Transpose,
		6: dimaging.Rotate270, // counter-clockwise
		7: dimaging.Transverse,
		8: dimaging.Rotate90,
	}[orientation]
	if !ok {
		return img
	}
	defer Wipe(img)
	return turn(img)
}

// Crop gives the part of img inside r as a picture of its own.
func Crop(img *image.NRGBA, r image.Rectangle) *image.NRGBA { return dimaging.Crop(img, r) }
