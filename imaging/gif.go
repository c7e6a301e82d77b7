package imaging

import (
	"errors"
	"image"
	"image/color"
	"io"
)

var errNoFrame = errors.New("it has no picture")

// inspectGIF walks the blocks (GIF89a, appendix B). The first picture's palette
// is read here, since image/gif forgets the transparent colour, which Pillow
// keeps.
func inspectGIF(data []byte, size image.Point) (facts, error) {
	f := facts{memory: int64(size.X) * int64(size.Y)}
	b := blocks{rest: data}
	global := b.palette(b.take(13)[10])
	transparent, ended := -1, false
	for {
		switch b.byte() {
		case '!':
			label := b.byte()
			if control := b.rest; label == 0xf9 && f.frames == 0 && len(control) >= 5 && control[1]&1 != 0 {
				transparent = int(control[4])
			}
			b.skip()
		case ',':
			d := b.take(9)
			local := b.palette(d[8])
			b.byte() // the code size
			if f.frames++; f.frames == 1 {
				if d[8]&0x40 != 0 { // interlaced: its rows are sorted into another picture
					f.memory *= 2
				}
				number := func(i int) int { return int(d[i]) | int(d[i+1])<<8 }
				at := image.Pt(number(0), number(2))
				f.first = &frame{place: image.Rectangle{Min: at, Max: at.Add(image.Pt(number(4), number(6)))}}
				if f.palette = local; local == nil {
					f.palette = global
				}
			}
			b.skip()
		default: // the end, or what the decoder does not get to
			ended = true
		}
		if b.failed || ended {
			break
		}
	}
	switch {
	case b.failed: // later pictures may be cut too
		return f, io.ErrUnexpectedEOF
	case f.first == nil:
		return f, errNoFrame
	case f.first.place.Empty():
		return f, errNoFrame
	case !f.first.place.In(image.Rectangle{Max: size}):
		return f, errors.New("a frame outside of the canvas")
	}
	f.first.background = color.NRGBA{A: 255}
	if i := max(transparent, 0); i < len(f.palette) {
		f.first.background = nrgba(f.palette[i])
	}
	return f, nil
}

// fromGIF gives the picture with the colours of its palette.
func fromGIF(src image.Image, f facts) rows {
	if p, ok := src.(*image.Paletted); ok {
		p.Palette = f.palette
	}
	return rgb(src)
}

// blocks reads what a GIF is made of; it fails where the file ends.
type blocks struct {
	rest   []byte
	failed bool
}

// take gives the next n bytes, zeros where there are too few.
func (b *blocks) take(n int) []byte {
	if len(b.rest) < n {
		b.failed, b.rest = true, nil
		return make([]byte, n)
	}
	taken := b.rest[:n]
	b.rest = b.rest[n:]
	return taken
}

func (b *blocks) byte() byte { return b.take(1)[0] }

// skip passes over a chain of sub-blocks.
func (b *blocks) skip() {
	for n := b.byte(); n > 0; n = b.byte() {
		b.take(int(n))
	}
}

// palette reads the colour table that flags tell of, or nil.
func (b *blocks) palette(flags byte) (p color.Palette) {
	if flags&0x80 == 0 {
		return nil
	}
	table := b.take(3 << (flags&7 + 1))
	for i := 0; i < len(table); i += 3 {
		p = append(p, color.NRGBA{table[i], table[i+1], table[i+2], 255})
	}
	return p
}
