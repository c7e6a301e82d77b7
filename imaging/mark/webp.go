package mark

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WebP (RFC 9649): a simple file becomes an extended one, with a header that
// tells what there is and the size, and XMP behind the picture.
var webpFile = container{
	name: "WebP", magic: "RIFF",
	split: splitWebP, join: joinWebP,
	pixels: []string{"VP8 ", "VP8L"},
}

func splitWebP(data []byte) ([]part, error) {
	const head = 12
	if len(data) < head || string(data[8:head]) != "WEBP" {
		return nil, errors.New("it is another RIFF file")
	}
	if uint64(binary.LittleEndian.Uint32(data[4:])) != uint64(len(data)-8) {
		return nil, errCut
	}
	var parts []part
	for rest := data[head:]; len(rest) > 0; {
		if len(rest) < 8 {
			return nil, errCut
		}
		length := uint64(binary.LittleEndian.Uint32(rest[4:]))
		if padded := length + length&1; padded > uint64(len(rest)-8) {
			return nil, errCut
		}
		end := 8 + int(length+length&1)
		parts = append(parts, part{name: string(rest[:4]), raw: rest[:end]})
		rest = rest[end:]
	}
	return parts, nil
}

func joinWebP(plain []part, packet []byte) ([]byte, error) {
	if len(plain) != 1 {
		return nil, fmt.Errorf("it has %d pictures, not one", len(plain))
	}
	picture := plain[0]
	width, height, alpha, err := webpSize(picture)
	if err != nil {
		return nil, err
	}
	const alphaFlag, xmpFlag = 0x10, 0x04
	header := [10]byte{0: xmpFlag}
	if alpha {
		header[0] |= alphaFlag
	}
	put24(header[4:], width-1)
	put24(header[7:], height-1)

	size := 4 + 8 + len(header) + len(picture.raw) + 8 + len(packet) + len(packet)&1
	out := append(make([]byte, 0, 8+size), "RIFF"...)
	out = binary.LittleEndian.AppendUint32(out, uint32(size))
	out = append(out, "WEBP"...)
	out = appendChunk(out, "VP8X", header[:])
	out = append(out, picture.raw...)
	return appendChunk(out, "XMP ", packet), nil
}

func appendChunk(out []byte, name string, body []byte) []byte {
	out = binary.LittleEndian.AppendUint32(append(out, name...), uint32(len(body)))
	out = append(out, body...)
	if len(body)&1 == 1 {
		out = append(out, 0)
	}
	return out
}

// webpSize reads a picture's size from its own header: VP8's frame (RFC 6386,
// 9.1) or VP8L's (RFC 9649, 3.4).
func webpSize(p part) (width, height uint32, alpha bool, err error) {
	b := p.raw[8:]
	switch {
	case p.name == "VP8 " && len(b) >= 10 && string(b[3:6]) == "\x9d\x01\x2a":
		width, height = uint32(binary.LittleEndian.Uint16(b[6:])&0x3fff), uint32(binary.LittleEndian.Uint16(b[8:])&0x3fff)
	case p.name == "VP8L" && len(b) >= 5 && b[0] == 0x2f:
		bits := binary.LittleEndian.Uint32(b[1:])
		width, height, alpha = bits&0x3fff+1, bits>>14&0x3fff+1, bits>>28&1 == 1
	}
	if width == 0 || height == 0 {
		return 0, 0, false, errors.New("the picture has no size")
	}
	return width, height, alpha, nil
}

func put24(b []byte, v uint32) { b[0], b[1], b[2] = byte(v), byte(v>>8), byte(v>>16) }
