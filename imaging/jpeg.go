package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
)

// maxScans bounds the work of a progressive JPEG: each scan may go over all
// pixels for a few bytes. No camera or encoder writes more than a dozen.
const maxScans = 100

var errTooShort = errors.New("it is cut: its bytes are too few for its pixels")

var (
	exifMark    = []byte("Exif\x00\x00")
	xmpMark     = []byte("http://ns.adobe.com/xap/1.0/\x00")
	profileMark = []byte("ICC_PROFILE\x00")
)

// inspectJPEG walks the markers as image/jpeg does, extraneous bytes included.
func inspectJPEG(data []byte, size image.Point) (facts, error) {
	// Each block of 8 x 8 pixels takes a bit at least, and a decoder may take
	// memory for all before it reads the first.
	if size.X*size.Y/64/8 > len(data) {
		return facts{}, errTooShort
	}
	const rst0, rst7, eoi, sos, app1, app2 = 0xd0, 0xd7, 0xd9, 0xda, 0xe1, 0xe2
	var (
		f       facts
		profile profileParts
		space   string
		scans   int
	)
	for rest := data[2:]; ; {
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 {
			break
		}
		rest = rest[i:]
		for len(rest) > 0 && rest[0] == 0xff {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0] == eoi {
			break
		}
		marker := rest[0]
		rest = rest[1:]
		if marker == 0 || rst0 <= marker && marker <= rst7 {
			continue
		}
		if len(rest) < 2 {
			break
		}
		length := int(binary.BigEndian.Uint16(rest))
		if length < 2 || length > len(rest) {
			break // the decoder says what is wrong
		}
		segment := rest[2:length]
		rest = rest[length:]
		switch marker {
		case 0xc0, 0xc1, 0xc2: // baseline, extended, progressive: all that image/jpeg reads
			var memory int64
			space, memory = frameHeader(segment, marker == 0xc2, size)
			f.memory = max(f.memory, memory) // a second one is an error, but only once it is met
		case sos:
			if scans++; scans > maxScans {
				return f, fmt.Errorf("more than %d scans", maxScans)
			}
		case app1:
			if exif, ok := bytes.CutPrefix(segment, exifMark); ok && f.exif == nil {
				f.exif = exif
			}
			if xmp, ok := bytes.CutPrefix(segment, xmpMark); ok {
				f.xmp = xmp
			}
		case app2:
			if part, ok := bytes.CutPrefix(segment, profileMark); ok {
				profile.add(part)
			}
		}
	}
	f.profile = parseProfile(profile.whole(), space)
	return f, nil
}

// frameHeader gives the colour space, as ICC names it, and the bytes that the
// decoder takes: a plane for each component, for a progressive picture four times
// that for its coefficients, and four bytes a pixel where RGB or CMYK may have to
// be interleaved.
func frameHeader(segment []byte, progressive bool, size image.Point) (space string, memory int64) {
	if len(segment) < 6 {
		return "", 0
	}
	n := int(segment[5])
	var sum, across, down int64
	for i := 7; i < len(segment) && i < 6+3*n; i += 3 {
		h, v := int64(segment[i]>>4), int64(segment[i]&15)
		sum, across, down = sum+h*v, max(across, h), max(down, v)
	}
	planes := int64(size.X) * int64(size.Y) * sum / max(across*down, 1)
	if n == 1 {
		planes = int64(size.X) * int64(size.Y) // its factors say nothing
	}
	memory = planes
	if progressive {
		memory += 4 * planes
	}
	interleaved := 4 * int64(size.X) * int64(size.Y)
	switch {
	case n == 1:
		return "GRAY", memory
	case n == 4:
		return "CMYK", memory + interleaved
	case planes == 3*interleaved/4: // RGB is not subsampled
		return "RGB ", memory + interleaved
	default:
		return "RGB ", memory
	}
}

// profileParts puts together a profile that is spread over APP2 segments, each
// with its number and their count (ICC.1:2022, B.4).
type profileParts struct {
	data   []byte
	next   byte
	broken bool
}

func (p *profileParts) add(part []byte) {
	// Writers put them in order, and readers that matter expect it.
	if p.next++; len(part) < 2 || part[0] != p.next || part[0] > part[1] || len(p.data)+len(part) > maxProfile {
		p.broken = true
	}
	if p.broken {
		return
	}
	p.data = append(p.data, part[2:]...)
}

func (p *profileParts) whole() []byte {
	if p.broken {
		return nil
	}
	return p.data
}
