// Package imaging is pixels on their way in and out of a model: it turns the
// bytes of a stranger's photo into upright RGB pixels, resizes them, converts
// them to and from tensors, and encodes pictures.
//
// The numbers are those of Pillow, which diffusers uses: the resize is equal
// pixel by pixel, and so are decoded PNG, WebP and GIF. Decoded JPEG follows
// libjpeg's upsampling and colour conversion, but Go's inverse DCT may differ
// from it by one.
//
// Every picture inside of this package is RGB: opaque, with its origin at (0, 0).
// The rules by which other pictures become one:
//
//   - Alpha is dropped and the colour under it kept, which is what diffusers'
//     load_image does (PIL's convert("RGB")), with palettes too.
//   - Of 16 bits the high eight are taken.
//   - Grey is three equal values. CMYK and YCCK, of JPEG with Adobe's marker, are
//     converted by Pillow's formula; without the marker they are refused.
//   - Of an animation the first picture is taken, on its canvas: what it leaves
//     free is black in WebP, and in GIF the transparent or else the first colour
//     of its palette. An animated PNG gives its still picture.
//   - Colours are sRGB. An ICC profile made of curves and a matrix (Display P3,
//     Adobe RGB, ProPhoto, grey gamma) is converted from, see profile.go; one that
//     means sRGB leaves the pixels as they are. Others (look-up tables, CMYK),
//     broken ones, and PNG's gAMA and cHRM are passed over, as Pillow passes over
//     all.
//   - The orientation that EXIF tells, or else XMP, is applied once, as PIL's
//     ImageOps.exif_transpose does it.
package imaging

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"io"
	"time"
)

var (
	// ErrNotImage says that the bytes are no picture that Decode can read: of a
	// kind that it does not take, broken, or truncated.
	ErrNotImage = errors.New("not a readable picture")

	// ErrTooLarge says that a picture is above one of the Limits.
	ErrTooLarge = errors.New("picture too large")
)

// Limits bound what Decode accepts. All but Time are held against the file's
// header and parts, before any pixel is decoded.
type Limits struct {
	Bytes  int64         // of the file
	Pixels int64         // width times height
	Side   int           // width, and height
	Frames int           // of an animation, though one alone is decoded
	Memory int64         // bytes that decoding takes, as the header lets it be foreseen
	Time   time.Duration // of decoding
}

// DefaultLimits is 20 MiB, 50 megapixels, 16,384 pixels a side, 1,000 frames,
// 264 MiB and 30 seconds. The memory is what a baseline JPEG of 50 megapixels
// with its chroma halved both ways takes, which is what phones make; with the file
// and the process itself it stays below 300.
func DefaultLimits() Limits {
	return Limits{Bytes: 20 << 20, Pixels: 50_000_000, Side: 16384, Frames: 1000, Memory: 264 << 20, Time: 30 * time.Second}
}

func (l Limits) checkSize(size image.Point) error {
	switch pixels := int64(size.X) * int64(size.Y); {
	case size.X <= 0 || size.Y <= 0:
		return fmt.Errorf("%w: it has no pixels", ErrNotImage)
	case size.X > l.Side || size.Y > l.Side:
		return fmt.Errorf("%w: %d x %d pixels, a side may have %d", ErrTooLarge, size.X, size.Y, l.Side)
	case pixels > l.Pixels:
		return fmt.Errorf("%w: %d x %d is %d pixels, the limit is %d", ErrTooLarge, size.X, size.Y, pixels, l.Pixels)
	}
	return nil
}

// checkCost holds what was found in the file against the limits. Beside the
// decoder's memory there is one picture of ours, of four bytes a pixel.
func (l Limits) checkCost(f facts, size image.Point) error {
	memory := f.memory
	if !f.inPlace {
		memory += 4 * int64(size.X) * int64(size.Y)
	}
	switch {
	case f.frames > l.Frames:
		return fmt.Errorf("%w: %d frames, the limit is %d", ErrTooLarge, f.frames, l.Frames)
	case memory > l.Memory:
		return fmt.Errorf("%w: decoding it takes %d MB, the limit is %d MB: scale it down, or save it as a baseline JPEG", ErrTooLarge, memory>>20, l.Memory>>20)
	}
	return nil
}

// facts are what a walk over a file's parts finds, without decoding.
type facts struct {
	exif    []byte   // a TIFF structure, or nil
	xmp     []byte   // a packet of text, or nil
	profile *profile // how its colours become sRGB, nil where they are
	frames  int      // of an animation
	memory  int64    // bytes that the decoder will take
	inPlace bool     // what it gives becomes ours as it lies there, if it is upright
	first   *frame   // of an animation, or nil where the file is one picture
	palette color.Palette
}

// frame is the first picture of an animation.
type frame struct {
	place      image.Rectangle // on the canvas
	background color.NRGBA     // of the canvas
	data       []byte          // a file of its own, wiped after use; nil: the decoder finds it in the whole
}

// Decode reads a JPEG, PNG, WebP or GIF file, recognised by its content, and
// gives it upright as opaque sRGB pixels.
//
// Errors are ErrNotImage or ErrTooLarge, wrapped with what was found, or the
// cause of ctx's end, which stops a decoder in its course.
func Decode(ctx context.Context, data []byte, l Limits) (*image.NRGBA, error) {
	if int64(len(data)) > l.Bytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), l.Bytes)
	}
	c, err := sniff(data)
	if err != nil {
		return nil, err
	}
	size, err := c.size(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s header: %w", ErrNotImage, c.name, err)
	}
	if err := l.checkSize(size); err != nil {
		return nil, err
	}
	f, err := guard(func() (facts, error) { return c.inspect(data, size) })
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotImage, c.name, err)
	}
	if f.first != nil {
		defer clear(f.first.data)
	}
	orientation := orientation(f)
	f.inPlace = f.inPlace && orientation == 1
	if err := l.checkCost(f, size); err != nil {
		return nil, err
	}
	source := &source{pieces: pieces{data}, until: time.Now().Add(l.Time)}
	img, err := guard(func() (*image.NRGBA, error) { return c.pictureOf(ctx, source, f, size, orientation) })
	switch {
	case ctx.Err() != nil:
		Wipe(img)
		return nil, fmt.Errorf("decode %s: %w", c.name, context.Cause(ctx))
	case source.late:
		return nil, fmt.Errorf("%w: decoding it takes longer than %v", ErrTooLarge, l.Time)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrNotImage, c.name, err)
	}
	f.profile.convert(img.Pix)
	return img, nil
}

// size is what the header claims.
func (c codec) size(data []byte) (image.Point, error) {
	config, err := guard(func() (image.Config, error) { return c.config(&pieces{data}) })
	return image.Pt(config.Width, config.Height), err
}

// pictureOf decodes, and puts the picture upright, an animation's first one on its
// canvas. What the decoder gives must have the size that was held against the
// limits.
func (c codec) pictureOf(ctx context.Context, s *source, f facts, size image.Point, orientation int) (*image.NRGBA, error) {
	place := image.Rectangle{Max: size}
	if f.first != nil {
		place = f.first.place
		if f.first.data != nil {
			s.data = f.first.data
			if size, err := c.size(s.data); err != nil || size != place.Size() {
				return nil, fmt.Errorf("a frame of %d x %d pixels, the animation says %d x %d", size.X, size.Y, place.Dx(), place.Dy())
			}
		}
	}
	decoded, err := c.decode(s.reader(ctx))
	if err != nil {
		return nil, err
	}
	if size := decoded.Bounds().Size(); size != place.Size() {
		Wipe(decoded)
		return nil, fmt.Errorf("%d x %d pixels, the header says %d x %d", size.X, size.Y, place.Dx(), place.Dy())
	}
	if orientation == 1 && place.Size() == size {
		if img := opaque(decoded); img != nil {
			return img, nil
		}
	}
	defer Wipe(decoded)
	canvas := newCanvas(size, orientation)
	if place.Size() != size {
		draw.Draw(canvas.img, canvas.img.Rect, image.NewUniform(f.first.background), image.Point{}, draw.Src)
	}
	canvas.paint(place, c.pixels(decoded, f))
	return canvas.img, nil
}

// guard makes an error of a decoder's panic.
func guard[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decoder panicked: %v", r)
		}
	}()
	return f()
}

// pieceSize is small, so that a decoder that spends long on few bytes (a JPEG of
// many scans) meets the end of its time soon, and so that little of a photo stays in
// the buffers of decoders.
const pieceSize = 256

// pieces gives data piece by piece.
type pieces struct{ data []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(pieceSize, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}

// source gives data until its time is up. Decoders do not all pass on the error
// of their reader, so it remembers.
type source struct {
	pieces

	until time.Time
	late  bool
}

var errLate = errors.New("time is up")

// reader reads the source until ctx ends.
func (s *source) reader(ctx context.Context) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if s.late = time.Now().After(s.until); s.late {
			return 0, errLate
		}
		return s.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
