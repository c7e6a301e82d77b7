// Package imaging is pixels on their way in and out of a model: it turns the
// bytes of a stranger's photo into upright RGB pixels, resizes them, converts
// them to and from tensors, and encodes pictures that carry pixels only.
//
// The numbers are those of Pillow, which diffusers uses: the resize is equal
// pixel by pixel, and so are decoded PNG and WebP. Decoded JPEG follows
// libjpeg's upsampling and colour conversion, but Go's inverse DCT may differ
// from it by one. Colour profiles are ignored, as Pillow ignores them.
//
// Every picture inside of this package is RGB: opaque, with its origin at (0, 0).
// Alpha is dropped right after decoding and what lies under it is kept, which is
// what diffusers' load_image does (PIL's convert("RGB")).
package imaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
)

var (
	// ErrNotImage says that the bytes are no picture that Decode can read: of an
	// unknown kind, broken, truncated, or animated.
	ErrNotImage = errors.New("not a readable picture")

	// ErrTooLarge says that a picture is above one of the Limits.
	ErrTooLarge = errors.New("picture too large")
)

// Limits bound what Decode accepts. All but Bytes are held against the file's
// header, before any pixel is decoded.
type Limits struct {
	Bytes  int64 // of the file
	Pixels int64 // width times height
	Side   int   // width, and height
}

// DefaultLimits is 20 MiB, 50 megapixels, and 16,384 pixels a side. Within them
// the worst case, a progressive JPEG, takes about 1 GB to decode.
func DefaultLimits() Limits {
	return Limits{Bytes: 20 << 20, Pixels: 50_000_000, Side: 16384}
}

func (l Limits) check(c image.Config) error {
	switch pixels := int64(c.Width) * int64(c.Height); {
	case c.Width <= 0 || c.Height <= 0:
		return fmt.Errorf("%w: it has no pixels", ErrNotImage)
	case c.Width > l.Side || c.Height > l.Side:
		return fmt.Errorf("%w: %d x %d pixels, a side may have %d", ErrTooLarge, c.Width, c.Height, l.Side)
	case pixels > l.Pixels:
		return fmt.Errorf("%w: %d x %d is %d pixels, the limit is %d", ErrTooLarge, c.Width, c.Height, pixels, l.Pixels)
	}
	return nil
}

// Decode reads a JPEG, PNG or WebP file, recognised by its content, and gives it
// upright (EXIF orientation applied) as opaque pixels. Of an animated PNG it
// gives the still picture; an animated WebP is refused.
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
	facts, err := c.inspect(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrNotImage, c.name, err)
	}
	config, err := guard(func() (image.Config, error) { return c.config(bytes.NewReader(data)) })
	if err != nil {
		return nil, fmt.Errorf("%w: %s header: %w", ErrNotImage, c.name, err)
	}
	if err := l.check(config); err != nil {
		return nil, err
	}
	img, err := guard(func() (*image.NRGBA, error) {
		decoded, err := c.decode(reading(ctx, data))
		if err != nil {
			return nil, err
		}
		if size := decoded.Bounds().Size(); size != image.Pt(config.Width, config.Height) {
			return nil, fmt.Errorf("%d x %d pixels, the header says %d x %d", size.X, size.Y, config.Width, config.Height)
		}
		return c.pixels(decoded), ctx.Err()
	})
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("decode %s: %w", c.name, context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrNotImage, c.name, err)
	}
	return upright(img, orientation(facts.exif)), nil
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

// readSize is small, so that a decoder that spends long on few bytes (a JPEG of
// many scans) meets the end of ctx soon.
const readSize = 256

// reading gives data until ctx ends.
func reading(ctx context.Context, data []byte) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if len(data) == 0 {
			return 0, io.EOF
		}
		n := copy(p, data[:min(readSize, len(data))])
		data = data[n:]
		return n, nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
