package imaging

import (
	"bytes"
	"fmt"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"slices"

	"golang.org/x/image/webp"
)

// codec is one kind of file that Decode reads, each by the one decoder named
// here: never by what happens to be registered with image.Decode.
type codec struct {
	name    string
	match   func([]byte) bool
	config  func(io.Reader) (image.Config, error)
	inspect func([]byte, image.Point) (facts, error)
	decode  func(io.Reader) (image.Image, error)
	pixels  func(image.Image, facts) rows
}

var codecs = []codec{
	{"JPEG", prefix("\xff\xd8\xff"), jpeg.DecodeConfig, inspectJPEG, jpeg.Decode, fromJPEG},
	{"PNG", prefix("\x89PNG\r\n\x1a\n"), pngConfig, inspectPNG, png.Decode, fromPNG},
	{"WebP", riff("WEBP"), webp.DecodeConfig, inspectWebP, webp.Decode, fromWebP},
	{"GIF", prefix("GIF8"), gif.DecodeConfig, inspectGIF, gif.Decode, fromGIF},
}

const (
	taken  = "a JPEG, PNG, WebP or GIF"
	advice = "send " + taken
)

// others are recognised for the sake of the advice only.
var others = []struct {
	name  string
	match func([]byte) bool
}{
	// The brands of ISO/IEC 23008-12 and of AV1 Image File Format.
	{"an AVIF picture", brand("avif", "avis")},
	{"a HEIC photo (on an iPhone: Settings, Camera, Formats, Most Compatible)", brand("heic", "heix", "hevc", "hevx", "heim", "heis", "hevm", "hevs", "mif1", "msf1")},
	{"a camera's raw file", brand("crx ")},
	{"a video", func(b []byte) bool { return len(boxBrands(b)) > 0 }},
	{"a TIFF or a camera's raw file", prefix("II*\x00", "MM\x00*", "II+\x00", "MM\x00+")},
	{"a BMP", prefix("BM")},
	{"an icon", prefix("\x00\x00\x01\x00")},
	{"a JPEG XL", prefix("\xff\x0a", "\x00\x00\x00\x0cJXL \r\n\x87\n")},
	{"a JPEG 2000", prefix("\xff\x4f\xff\x51", "\x00\x00\x00\x0cjP  \r\n\x87\n")},
	{"a Photoshop document", prefix("8BPS")},
	{"a PDF", prefix("%PDF")},
	{"an SVG or another text", func(b []byte) bool {
		b = bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \t\r\n")
		return prefix("<")(b)
	}},
}

func prefix(magic ...string) func([]byte) bool {
	return func(b []byte) bool {
		return slices.ContainsFunc(magic, func(m string) bool { return bytes.HasPrefix(b, []byte(m)) })
	}
}

func riff(form string) func([]byte) bool {
	return func(b []byte) bool { return len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == form }
}

func brand(names ...string) func([]byte) bool {
	return func(b []byte) bool {
		return slices.ContainsFunc(boxBrands(b), func(brand string) bool { return slices.Contains(names, brand) })
	}
}

// boxBrands are the brands of an ISO base media file (ISO/IEC 14496-12, 4.3):
// the major one and those it is compatible with.
func boxBrands(b []byte) (brands []string) {
	if len(b) < 12 || string(b[4:8]) != "ftyp" {
		return nil
	}
	brands = append(brands, string(b[8:12]))
	const most = 64
	end := min(int64(b[0])<<24|int64(b[1])<<16|int64(b[2])<<8|int64(b[3]), int64(len(b)), 16+4*most)
	for i := int64(16); i+4 <= end; i += 4 {
		brands = append(brands, string(b[i:i+4]))
	}
	return brands
}

func sniff(data []byte) (codec, error) {
	for _, c := range codecs {
		if c.match(data) {
			return c, nil
		}
	}
	for _, o := range others {
		if o.match(data) {
			return codec{}, fmt.Errorf("%w: %s: %s", ErrNotImage, o.name, advice)
		}
	}
	return codec{}, fmt.Errorf("%w: %d bytes of an unknown kind: %s", ErrNotImage, len(data), advice)
}
