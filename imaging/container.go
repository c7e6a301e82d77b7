package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/webp"
)

// codec is one kind of file that Decode reads, each by the one decoder named
// here: never by what happens to be registered with image.Decode.
type codec struct {
	name    string
	match   func([]byte) bool
	inspect func([]byte) (facts, error)
	config  func(io.Reader) (image.Config, error)
	decode  func(io.Reader) (image.Image, error)
	pixels  func(image.Image) *image.NRGBA
}

// facts are what a walk over a file's parts finds, without decoding.
type facts struct {
	exif []byte // a TIFF structure, or nil
}

var codecs = []codec{
	{"JPEG", prefix("\xff\xd8\xff"), inspectJPEG, jpeg.DecodeConfig, jpeg.Decode, fromJPEG},
	{"PNG", prefix("\x89PNG\r\n\x1a\n"), inspectPNG, pngConfig, png.Decode, rgb},
	{"WebP", riff("WEBP"), inspectWebP, webp.DecodeConfig, webp.Decode, fromWebP},
}

// others are recognised for the sake of the error only.
var others = []struct {
	name  string
	match func([]byte) bool
}{
	{"a GIF", prefix("GIF8")},
	{"a BMP", prefix("BM")},
	{"a TIFF", prefix("II*\x00")},
	{"a TIFF", prefix("MM\x00*")},
	{"a HEIC or AVIF", func(b []byte) bool { return len(b) >= 12 && string(b[4:8]) == "ftyp" }},
	{"a JPEG XL", prefix("\xff\x0a")},
	{"a PDF", prefix("%PDF")},
}

func prefix(magic string) func([]byte) bool {
	return func(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }
}

func riff(form string) func([]byte) bool {
	return func(b []byte) bool { return len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == form }
}

func sniff(data []byte) (codec, error) {
	for _, c := range codecs {
		if c.match(data) {
			return c, nil
		}
	}
	for _, o := range others {
		if o.match(data) {
			return codec{}, fmt.Errorf("%w: %s, not a JPEG, PNG or WebP", ErrNotImage, o.name)
		}
	}
	return codec{}, fmt.Errorf("%w: %d bytes that are not a JPEG, PNG or WebP", ErrNotImage, len(data))
}

// maxScans bounds the work of a progressive JPEG: each scan may go over all
// pixels for a few bytes. No camera or encoder writes more than a dozen.
const maxScans = 100

var exifMark = []byte("Exif\x00\x00")

// inspectJPEG walks the markers as image/jpeg does, extraneous bytes included.
func inspectJPEG(data []byte) (facts, error) {
	const rst0, rst7, eoi, sos, app1 = 0xd0, 0xd7, 0xd9, 0xda, 0xe1
	var f facts
	scans := 0
	for rest := data[2:]; ; {
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 {
			return f, nil
		}
		rest = rest[i:]
		for len(rest) > 0 && rest[0] == 0xff {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0] == eoi {
			return f, nil
		}
		marker := rest[0]
		rest = rest[1:]
		if marker == 0 || rst0 <= marker && marker <= rst7 {
			continue
		}
		if len(rest) < 2 {
			return f, nil
		}
		length := int(binary.BigEndian.Uint16(rest))
		if length < 2 || length > len(rest) {
			return f, nil // the decoder says what is wrong
		}
		segment := rest[2:length]
		rest = rest[length:]
		switch {
		case marker == sos:
			scans++
			if scans > maxScans {
				return f, fmt.Errorf("more than %d scans", maxScans)
			}
		case marker == app1 && f.exif == nil && bytes.HasPrefix(segment, exifMark):
			f.exif = segment[len(exifMark):]
		}
	}
}

// pngConfig reads the size that the header claims, whether or not its checksum
// holds: what is too large is called so, and only the rest is read further.
func pngConfig(r io.Reader) (image.Config, error) {
	var head [24]byte // magic, length and type of IHDR, width, height
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return image.Config{}, err
	}
	if string(head[12:16]) != "IHDR" {
		return image.Config{}, errors.New("it does not begin with IHDR")
	}
	w, h := binary.BigEndian.Uint32(head[16:]), binary.BigEndian.Uint32(head[20:])
	if w > math.MaxInt32 || h > math.MaxInt32 {
		return image.Config{}, errors.New("a side above 2^31-1")
	}
	return image.Config{Width: int(w), Height: int(h)}, nil
}

func inspectPNG(data []byte) (facts, error) {
	var f facts
	for rest := data[8:]; len(rest) >= 12; {
		length := int64(binary.BigEndian.Uint32(rest))
		if length > int64(len(rest)-12) {
			break
		}
		if string(rest[4:8]) == "eXIf" && f.exif == nil {
			f.exif = rest[8 : 8+length]
		}
		rest = rest[12+length:]
	}
	return f, nil
}

func inspectWebP(data []byte) (facts, error) {
	const animation = 1 << 1 // a flag of the VP8X chunk
	var f facts
	if size := int64(binary.LittleEndian.Uint32(data[4:])); size > int64(len(data)-8) {
		return f, io.ErrUnexpectedEOF // EXIF comes last: without it the picture may lie on its side
	}
	for rest := data[12:]; len(rest) >= 8; {
		length := int64(binary.LittleEndian.Uint32(rest[4:]))
		if length > int64(len(rest)-8) {
			break
		}
		chunk := rest[8 : 8+length]
		switch string(rest[:4]) {
		case "VP8X":
			if len(chunk) > 0 && chunk[0]&animation != 0 {
				return f, errors.New("animated pictures are not supported")
			}
		case "EXIF":
			if f.exif == nil {
				f.exif = bytes.TrimPrefix(chunk, exifMark) // some writers keep JPEG's mark
			}
		}
		rest = rest[min(8+length+length&1, int64(len(rest))):]
	}
	return f, nil
}
