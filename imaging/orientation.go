package imaging

import (
	"bytes"
	"image"
	"regexp"

	"github.com/bep/imagemeta"
	dimaging "github.com/disintegration/imaging"
)

// orientation is what EXIF tells, or else XMP, from 1 to 8; 1, upright, where
// neither does.
func orientation(f facts) int {
	o, told := exifOrientation(f.exif)
	if !told {
		// As Pillow does it, by the packet's text.
		if found := xmpOrientation.FindSubmatch(f.xmp); found != nil {
			o = int(found[1][0] - '0')
		}
	}
	if o < 1 || o > 8 {
		return 1
	}
	return o
}

var xmpOrientation = regexp.MustCompile(`tiff:Orientation(?:="|>)(\d)`)

// exifOrientation reads the Orientation tag of an EXIF block's first directory.
// What is broken tells nothing.
func exifOrientation(exif []byte) (o int, told bool) {
	if len(exif) == 0 {
		return 0, false
	}
	defer func() {
		if recover() != nil {
			o, told = 0, false
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
			told = true
			if v, ok := t.Value.(uint16); ok && v <= 8 {
				o = int(v)
			}
			return imagemeta.ErrStopWalking
		},
	})
	if err != nil {
		return 0, false
	}
	return o, told
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
