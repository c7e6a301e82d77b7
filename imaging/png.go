package imaging

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"image"
	"io"
	"math"
)

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

func inspectPNG(data []byte, size image.Point) (facts, error) {
	var (
		f                       facts
		icc, cicp               []byte
		depth, kind, interlaced byte
		compressed              int64
	)
	for rest := data[8:]; len(rest) >= 12; {
		length := int64(binary.BigEndian.Uint32(rest))
		if length > int64(len(rest)-12) {
			break
		}
		chunk := rest[8 : 8+length]
		switch string(rest[4:8]) {
		case "IHDR":
			if len(chunk) == 13 {
				depth, kind, interlaced = chunk[8], chunk[9], chunk[12]
			}
		case "eXIf":
			if f.exif == nil {
				f.exif = chunk
			}
		case "iTXt":
			if text, ok := bytes.CutPrefix(chunk, pngXMP); ok {
				f.xmp = internationalText(text)
			}
		case "iCCP":
			if icc == nil {
				icc = chunk
			}
		case "cICP":
			if cicp == nil {
				cicp = chunk
			}
		case "IDAT":
			compressed += length
		case "fcTL":
			f.frames++
		}
		rest = rest[12+length:]
	}
	bits := pngBits(depth, kind) * int64(size.X) * int64(size.Y)
	// Deflate makes 1 byte of 1,032 at most.
	if bits/8/1032 > compressed {
		return f, errTooShort
	}
	f.memory, f.inPlace = pngMemory(depth, kind, size)
	if interlaced != 0 { // its passes are pictures too
		f.memory *= 2
	}
	space := "RGB "
	if kind == 0 || kind == 4 {
		space = "GRAY"
	}
	// The precedence of PNG, third edition, 4.3.
	switch {
	case bytes.Equal(cicp, []byte{1, 13, 0, 1}): // sRGB
	case bytes.Equal(cicp, []byte{12, 13, 0, 1}) && space == "RGB ":
		f.profile = displayP3()
	default:
		f.profile = parseProfile(inflateProfile(icc), space)
	}
	return f, nil
}

// pngBits is the size of a pixel in the file.
func pngBits(depth, kind byte) int64 {
	channels := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
	return channels[kind] * int64(depth)
}

// pngMemory is what image/png takes at most, and whether its result can be ours as
// it is. Of 16 bits, grey may have a transparent value, which makes four channels
// of it; of 8 it takes no more then than with our copy.
func pngMemory(depth, kind byte, size image.Point) (memory int64, inPlace bool) {
	pixels := int64(size.X) * int64(size.Y)
	switch {
	case depth == 16:
		return 8 * pixels, false
	case kind == 0, kind == 3: // grey, a palette
		return pixels, false
	default:
		return 4 * pixels, true
	}
}

// inflateProfile reads an iCCP chunk: a name, a method, and the profile
// compressed.
func inflateProfile(chunk []byte) []byte {
	name := bytes.IndexByte(chunk, 0)
	if name < 0 || name+2 > len(chunk) {
		return nil
	}
	return inflate(chunk[name+2:])
}

var pngXMP = []byte("XML:com.adobe.xmp\x00")

// internationalText reads an iTXt chunk behind its keyword: whether it is
// compressed, a method, a language, a translated keyword, and the text.
func internationalText(chunk []byte) []byte {
	parts := bytes.SplitN(chunk[min(2, len(chunk)):], []byte{0}, 3)
	switch {
	case len(parts) < 3:
		return nil
	case chunk[0] == 1:
		return inflate(parts[2])
	default:
		return parts[2]
	}
}

// inflate gives nil where it would be more than a chunk that we read needs.
func inflate(compressed []byte) []byte {
	const most = maxProfile
	r, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil || len(data) > most {
		return nil
	}
	return data
}

func fromPNG(src image.Image, _ facts) rows { return rgb(src) }
