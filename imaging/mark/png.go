package mark

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// PNG specification, third edition: 5.3 for chunks, 11.3.3.4 for iTXt. Where XMP
// goes is in part 3 of its specification, 1.1.5; before the pixels, readers find
// it without reading these.
var pngFile = container{
	name: "PNG", magic: pngMagic,
	split: splitPNG, join: joinPNG,
	pixels: []string{"IHDR", "IDAT", "IEND"},
}

// keyword, then flags of compression, and no language nor translated keyword.
const pngKeyword = "XML:com.adobe.xmp\x00\x00\x00\x00\x00"

var errCut = errors.New("it is cut off")

func splitPNG(data []byte) ([]part, error) {
	var parts []part
	for rest := data[len(pngMagic):]; len(rest) > 0; {
		const around = 12 // length, name and checksum
		if len(rest) < around {
			return nil, errCut
		}
		length := uint64(binary.BigEndian.Uint32(rest))
		if length > uint64(len(rest)-around) {
			return nil, errCut
		}
		end := around + int(length)
		p := part{name: string(rest[4:8]), raw: rest[:end]}
		if crc32.ChecksumIEEE(rest[4:end-4]) != binary.BigEndian.Uint32(rest[end-4:]) {
			return nil, errors.New("a checksum is wrong")
		}
		parts, rest = append(parts, p), rest[end:]
	}
	last := len(parts) - 1
	if last < 2 || parts[0].name != "IHDR" || parts[last].name != "IEND" {
		return nil, errors.New("it is not from IHDR to IEND")
	}
	return parts, nil
}

const pngMagic = "\x89PNG\r\n\x1a\n"

func joinPNG(plain []part, packet []byte) ([]byte, error) {
	size := len(pngMagic) + 12 + len(pngKeyword) + len(packet)
	for _, p := range plain {
		size += len(p.raw)
	}
	out := append(make([]byte, 0, size), pngMagic...)
	out = append(out, plain[0].raw...)
	start := len(out)
	out = binary.BigEndian.AppendUint32(out, uint32(len(pngKeyword)+len(packet)))
	out = append(append(append(out, "iTXt"...), pngKeyword...), packet...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[start+4:]))
	for _, p := range plain[1:] {
		out = append(out, p.raw...)
	}
	return out, nil
}
