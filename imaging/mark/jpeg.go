package mark

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// JPEG (ITU-T T.81, annex B) with XMP in an APP1 segment (XMP specification part
// 3, 1.1.3). The names of parts are those of the markers.
var jpegFile = container{
	name: "JPEG", magic: "\xff\xd8\xff",
	split: splitJPEG, join: joinJPEG,
	pixels: []string{"SOI", "DQT", "SOF0", "DHT", "SOS", "EOI"},
}

const (
	markerSOI = 0xd8
	markerEOI = 0xd9
	markerSOS = 0xda
)

var jpegNames = map[byte]string{markerSOI: "SOI", 0xdb: "DQT", 0xc0: "SOF0", 0xc4: "DHT", markerSOS: "SOS", markerEOI: "EOI", 0xe1: "APP1"}

const jpegNamespace = "http://ns.adobe.com/xap/1.0/\x00"

func splitJPEG(data []byte) ([]part, error) {
	var parts []part
	for rest := data; len(rest) > 0; {
		if len(rest) < 2 {
			return nil, errCut
		}
		if rest[0] != 0xff {
			return nil, errors.New("there is no marker where one should be")
		}
		marker := rest[1]
		end := 2
		if marker != markerSOI && marker != markerEOI {
			if len(rest) < 4 {
				return nil, errCut
			}
			end = 2 + int(binary.BigEndian.Uint16(rest[2:]))
			if end < 4 || end > len(rest) {
				return nil, errCut
			}
			if marker == markerSOS {
				end += scan(rest[end:])
			}
		}
		name, known := jpegNames[marker]
		if !known {
			name = fmt.Sprintf("%02X", marker)
		}
		parts = append(parts, part{name: name, raw: rest[:end]})
		rest = rest[end:]
		if marker == markerEOI && len(rest) > 0 {
			return nil, errors.New("something follows its end")
		}
	}
	if last := len(parts) - 1; last < 1 || parts[last].name != "EOI" {
		return nil, errCut
	}
	return parts, nil
}

// scan is the length of the entropy-coded data: up to the first marker that is
// neither a stuffed zero nor a restart.
func scan(data []byte) int {
	for i := 0; ; {
		next := bytes.IndexByte(data[i:], 0xff)
		if next < 0 || i+next+1 >= len(data) {
			return len(data)
		}
		i += next
		if after := data[i+1]; after != 0 && (after < 0xd0 || after > 0xd7) {
			return i
		}
		i += 2
	}
}

func joinJPEG(plain []part, packet []byte) ([]byte, error) {
	length := 2 + len(jpegNamespace) + len(packet)
	if length > 0xffff {
		return nil, errors.New("the mark is too long for a segment")
	}
	size := 2 + length
	for _, p := range plain {
		size += len(p.raw)
	}
	out := append(make([]byte, 0, size), plain[0].raw...)
	out = binary.BigEndian.AppendUint16(append(out, 0xff, 0xe1), uint16(length))
	out = append(append(out, jpegNamespace...), packet...)
	for _, p := range plain[1:] {
		out = append(out, p.raw...)
	}
	return out, nil
}
