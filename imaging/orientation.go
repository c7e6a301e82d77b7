package imaging

import (
	"image"
	"regexp"

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

// rows gives a picture from its top: row y, as RGBA, into out.
type rows func(y int, out []uint8)

// picture is all rows.
func (r rows) picture(size image.Point) *image.NRGBA {
	c := newCanvas(size, 1)
	c.paint(c.img.Rect, r)
	return c.img
}

// canvas is a picture in the making, upright while its rows come as they lie in
// the file: no second copy of a large photo is needed to turn it.
type canvas struct {
	img                  *image.NRGBA
	origin, across, down int // of the file's pixels in img.Pix: the first, to the next, to the next row
}

// newCanvas undoes an EXIF orientation, as PIL's ImageOps.exif_transpose does it,
// of a picture that has this size in its file.
func newCanvas(size image.Point, orientation int) canvas {
	c := canvas{across: 4, down: 4 * size.X}
	turned := size
	if orientation >= 5 {
		turned = image.Pt(size.Y, size.X)
		c.across, c.down = 4*size.Y, 4
	}
	switch orientation {
	case 2, 3, 7, 8: // from right to left
		c.origin += (size.X - 1) * c.across
		c.across = -c.across
	}
	switch orientation {
	case 3, 4, 6, 7: // from below
		c.origin += (size.Y - 1) * c.down
		c.down = -c.down
	}
	c.img = image.NewNRGBA(image.Rectangle{Max: turned})
	return c
}

// paint draws at a place that is meant as in the file.
func (c canvas) paint(place image.Rectangle, row rows) {
	line := make([]uint8, 4*place.Dx())
	defer clear(line)
	for y := range place.Dy() {
		at := c.origin + place.Min.X*c.across + (place.Min.Y+y)*c.down
		if c.across == 4 {
			row(y, c.img.Pix[at:][:len(line)])
			continue
		}
		row(y, line)
		for x := 0; x < len(line); x += 4 {
			copy(c.img.Pix[at:][:4], line[x:])
			at += c.across
		}
	}
}

// Crop gives the part of img inside r as a picture of its own.
func Crop(img *image.NRGBA, r image.Rectangle) *image.NRGBA { return dimaging.Crop(img, r) }
