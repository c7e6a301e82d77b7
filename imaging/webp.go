package imaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io"
)

// inspectWebP walks the chunks of the container (RFC 9649, 2.7).
func inspectWebP(data []byte, size image.Point) (facts, error) {
	const animation = 1 << 1 // a flag of the VP8X chunk
	var f facts
	if declared := int64(binary.LittleEndian.Uint32(data[4:])); declared > int64(len(data)-8) {
		return f, io.ErrUnexpectedEOF // EXIF comes last: without it the picture may lie on its side
	}
	var animated, alpha bool
	var still, first bitstream
	place := image.Rectangle{Max: size}
	err := eachChunk(data[12:], func(name string, chunk []byte) (err error) {
		switch name {
		case "VP8X":
			animated = len(chunk) > 0 && chunk[0]&animation != 0
		case "ANMF":
			if f.frames++; f.frames == 1 {
				place, first, err = firstFrame(chunk, size)
			}
		case "ALPH":
			alpha = true
		case "VP8 ", "VP8L":
			if still.data == nil {
				still = bitstream{name, chunk}
			}
		case "ICCP":
			if f.profile == nil {
				f.profile = parseProfile(chunk, "RGB ")
			}
		case "XMP ":
			f.xmp = chunk
		case "EXIF":
			if f.exif == nil {
				f.exif = bytes.TrimPrefix(chunk, exifMark) // some writers keep JPEG's mark
			}
		}
		return err
	})
	if err != nil {
		return f, err
	}
	picture := first
	if !animated {
		picture, place, f.frames = still, image.Rectangle{Max: size}, 0
	}
	if picture.data == nil {
		return f, errors.New("it has no picture")
	}
	if animated || alpha { // alpha, which is dropped in any case, stays behind
		f.first = &frame{place: place, background: color.NRGBA{A: 255}, data: picture.file()}
	}
	f.memory, f.inPlace, err = picture.cost(place.Size())
	f.inPlace = f.inPlace && place.Size() == size
	return f, err
}

// bitstream is a chunk that holds a picture, lossy (VP8) or lossless (VP8L).
type bitstream struct {
	name string
	data []byte
}

// file makes a file of it alone.
func (b bitstream) file() []byte {
	length := uint32(len(b.data))
	file := make([]byte, 0, 20+length+length&1)
	file = binary.LittleEndian.AppendUint32(append(file, "RIFF"...), 12+length+length&1)
	file = binary.LittleEndian.AppendUint32(append(append(file, "WEBP"...), b.name...), length)
	return append(append(file, b.data...), make([]byte, length&1)...)
}

// cost is what the decoder takes at most, and whether its result can be ours as it
// is. Bytes that no picture of the size has are an error.
func (b bitstream) cost(size image.Point) (memory int64, inPlace bool, err error) {
	pixels, length := int64(size.X)*int64(size.Y), int64(len(b.data))
	if b.name == "VP8 " {
		// Each macroblock of 16 x 16 tells its modes, by probabilities that the format
		// sets: 3 bits at least (RFC 6386, 11.2). The data is copied.
		if pixels/256*3/8 > length {
			err = errTooShort
		}
		return pixels*3/2 + length, false, err
	}
	// One colour takes no bytes at all, which only small pictures are believed. A
	// mask of two colours has several times that.
	if pixels > 4<<20 && pixels>>16 > length {
		err = errTooShort
	}
	// With a palette the pixels are there twice; and there are three transforms or
	// tables of a value for each 4 x 4 pixels. Huffman codes come on top: the decoder
	// takes 2,600 groups of them at most, each of up to 53 KB, which 200 bytes of the
	// file can ask for.
	const groups, groupMemory, groupBytes = 2600, 53_000, 200
	return (8*4+3)*pixels/4 + min(groups, length/groupBytes)*groupMemory, true, err
}

func eachChunk(rest []byte, visit func(name string, chunk []byte) error) error {
	for len(rest) >= 8 {
		length := int64(binary.LittleEndian.Uint32(rest[4:]))
		if length > int64(len(rest)-8) {
			return nil
		}
		if err := visit(string(rest[:4]), rest[8:8+length]); err != nil {
			return err
		}
		rest = rest[min(8+length+length&1, int64(len(rest))):]
	}
	return nil
}

// firstFrame finds the picture of an animation's frame, and its place.
func firstFrame(chunk []byte, canvas image.Point) (place image.Rectangle, picture bitstream, err error) {
	const header = 16
	if len(chunk) < header {
		return place, picture, io.ErrUnexpectedEOF
	}
	number := func(i int) int { return int(chunk[i]) | int(chunk[i+1])<<8 | int(chunk[i+2])<<16 }
	at := image.Pt(2*number(0), 2*number(3))
	place = image.Rectangle{Min: at, Max: at.Add(image.Pt(number(6)+1, number(9)+1))}
	if !place.In(image.Rectangle{Max: canvas}) {
		return place, picture, errors.New("a frame outside of the canvas")
	}
	err = eachChunk(chunk[header:], func(name string, data []byte) error {
		if picture.data == nil && (name == "VP8 " || name == "VP8L") {
			picture = bitstream{name, data}
		}
		return nil
	})
	return place, picture, err
}
