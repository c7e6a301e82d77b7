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
	// The most is a lossy picture, 1.5 bytes a pixel, with alpha, which is decoded
	// as a lossless one: with a palette it is there twice.
	f := facts{memory: 10 * int64(size.X) * int64(size.Y)}
	if declared := int64(binary.LittleEndian.Uint32(data[4:])); declared > int64(len(data)-8) {
		return f, io.ErrUnexpectedEOF // EXIF comes last: without it the picture may lie on its side
	}
	animated := false
	err := eachChunk(data[12:], func(name string, chunk []byte) (err error) {
		switch name {
		case "VP8X":
			animated = len(chunk) > 0 && chunk[0]&animation != 0
		case "ANMF":
			if f.frames++; f.frames == 1 {
				f.first, err = firstFrame(chunk, size)
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
	switch {
	case err != nil:
		return f, err
	case !animated:
		f.first, f.frames = nil, 0
	case f.first == nil:
		return f, errors.New("an animation without a frame")
	}
	return f, nil
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

// firstFrame makes a file of an animation's frame. Its alpha, which is dropped in
// any case, stays behind.
func firstFrame(chunk []byte, canvas image.Point) (*frame, error) {
	const header = 16
	if len(chunk) < header {
		return nil, io.ErrUnexpectedEOF
	}
	number := func(i int) int { return int(chunk[i]) | int(chunk[i+1])<<8 | int(chunk[i+2])<<16 }
	at := image.Pt(2*number(0), 2*number(3))
	f := &frame{place: image.Rectangle{Min: at, Max: at.Add(image.Pt(number(6)+1, number(9)+1))}, background: color.NRGBA{A: 255}}
	if !f.place.In(image.Rectangle{Max: canvas}) {
		return nil, errors.New("a frame outside of the canvas")
	}
	err := eachChunk(chunk[header:], func(name string, picture []byte) error {
		if f.data == nil && (name == "VP8 " || name == "VP8L") {
			length := uint32(len(picture))
			f.data = binary.LittleEndian.AppendUint32([]byte("RIFF"), 12+length+length&1)
			f.data = binary.LittleEndian.AppendUint32(append(append(f.data, "WEBP"...), name...), length)
			f.data = append(append(f.data, picture...), make([]byte, length&1)...)
		}
		return nil
	})
	if f.data == nil {
		return nil, errors.New("a frame without a picture")
	}
	return f, err
}
