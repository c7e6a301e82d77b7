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
	const rst0, rst7, eoi, sos, app1, app2, app14 = 0xd0, 0xd7, 0xd9, 0xda, 0xe1, 0xe2, 0xee
	var (
		f           facts
		profile     profileParts
		scans       int
		scanned     int // bytes between the scans' headers and the next marker
		frame       []byte
		progressive bool
		rgb         bool // by Adobe's marker
	)
	for rest := data[2:]; ; {
		i := bytes.IndexByte(rest, 0xff)
		if scans > 0 && i < 0 {
			scanned += len(rest)
		} else if scans > 0 {
			scanned += i
		}
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
			if frame == nil { // a second one is an error as soon as it is met
				frame, progressive = segment, marker == 0xc2
			}
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
		case app14:
			if adobe, ok := bytes.CutPrefix(segment, []byte("Adobe")); ok && len(adobe) >= 7 && adobe[6] == 0 {
				rgb = true
			}
		}
	}
	// Each block of 8 x 8 pixels takes a bit at least, and a decoder may take
	// memory for all before it reads the first.
	if size.X*size.Y/64/8 > scanned {
		return f, errTooShort
	}
	space, memory, inPlace := jpegFrame(frame, progressive, rgb, size)
	f.memory, f.inPlace, f.profile = memory, inPlace, parseProfile(profile.whole(), space)
	return f, nil
}

// jpegFrame gives the colour space, as ICC names it, and the bytes that the
// decoder takes: a plane for each component, for a progressive picture four times
// that for its coefficients, and four bytes a pixel where RGB or CMYK have to be
// interleaved. RGB, which Adobe's marker or the components' names tell, can then be
// ours as it is.
func jpegFrame(segment []byte, progressive, rgb bool, size image.Point) (space string, memory int64, inPlace bool) {
	if len(segment) < 6 {
		return "", 0, false
	}
	n := int(segment[5])
	var sum, across, down int64
	var names []byte
	for i := 6; i+1 < len(segment) && i < 6+3*n; i += 3 {
		h, v := int64(segment[i+1]>>4), int64(segment[i+1]&15)
		sum, across, down = sum+h*v, max(across, h), max(down, v)
		names = append(names, segment[i])
	}
	pixels := int64(size.X) * int64(size.Y)
	planes := pixels * sum / max(across*down, 1)
	if n == 1 {
		planes = pixels // its factors say nothing
	}
	memory = planes
	if progressive {
		memory += 4 * planes
	}
	switch {
	case n == 1:
		return "GRAY", memory, false
	case n == 4:
		return "CMYK", memory + 4*pixels, false
	case rgb || string(names) == "RGB":
		return "RGB ", memory + 4*pixels, true
	default:
		return "RGB ", memory, false
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
