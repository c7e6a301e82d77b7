package imaging_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/internal/memtest"
)

func TestWipe(t *testing.T) {
	r := image.Rect(0, 0, 4, 4)
	gray, gray16, cmyk := image.NewGray(r), image.NewGray16(r), image.NewCMYK(r)
	nrgba, rgba, nrgba64, rgba64 := image.NewNRGBA(r), image.NewRGBA(r), image.NewNRGBA64(r), image.NewRGBA64(r)
	paletted, ycc := image.NewPaletted(r, color.Palette{color.Black}), image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
	ycca := image.NewNYCbCrA(r, image.YCbCrSubsampleRatio420)
	planes := [][]byte{
		gray.Pix, gray16.Pix, cmyk.Pix, nrgba.Pix, rgba.Pix, nrgba64.Pix, rgba64.Pix, paletted.Pix, ycc.Y, ycc.Cb, ycc.Cr, ycca.Y, ycca.Cb, ycca.Cr, ycca.A,
	}
	for _, p := range planes {
		for i := range p {
			p[i] = 1
		}
	}
	imaging.Wipe(gray, gray16, cmyk, nrgba, rgba, nrgba64, rgba64, paletted, ycc, ycca, (*image.NRGBA)(nil), nil)
	for i, p := range planes {
		if len(p) == 0 || slices.Max(p) != 0 {
			t.Errorf("plane %d is not wiped", i)
		}
	}
}

// What Decode made for itself holds nothing of a photo when it is done, and
// nothing of what else its file says.
func TestDecodeWipes(t *testing.T) {
	decode := func(t *testing.T, data []byte) {
		img, err := imaging.Decode(t.Context(), data, imaging.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		clear(data)
		imaging.Wipe(img)
	}
	for name, orientation := range map[string]byte{"pixels": 1, "pixels that are turned": 6} {
		t.Run(name, func(t *testing.T) {
			memtest.Gone(t, func(s *memtest.Secret) { decode(t, secretPNG(t, s, orientation)) })
		})
	}
	t.Run("EXIF", func(t *testing.T) {
		memtest.Gone(t, func(s *memtest.Secret) {
			file := flat{64, 64, 0xc0, 3, 0x22}.jpeg(onItsSide, segment(0xe1, strings.Repeat("\x00", 6000)))
			for _, at := range []int{50, 1000, 3000, 5000} { // behind the orientation
				s.Write(file[at:])
			}
			decode(t, file)
		})
	})
	t.Run("a frame's file", func(t *testing.T) {
		memtest.Gone(t, func(s *memtest.Secret) {
			stream := oneColour(64)[20:]
			size := func(n int) string { return string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
			const more = 10000 // that the decoder does not come to
			header := "\x00\x00\x00\x00\x00\x00" + "\x3f\x00\x00" + "\x3f\x00\x00" + "\x00\x00\x00\x00"
			padded := riff("VP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x3f\x00\x00\x3f\x00\x00",
				"ANMF"+size(16+8+len(stream)+more)+header+"VP8L"+size(len(stream)+more)+string(stream)+strings.Repeat("\x00", more))
			s.Write(padded[len(padded)-1000:])
			decode(t, padded)
		})
	})
}

// secretPNG is a grey picture whose first rows hold a secret; so many rows follow
// that the decompressor does not remember them.
func secretPNG(t *testing.T, s *memtest.Secret, orientation byte) []byte {
	t.Helper()
	src := image.NewGray(image.Rect(0, 0, 128, 1024))
	for y := range 16 {
		s.Write(src.Pix[y*src.Stride:])
	}
	var out bytes.Buffer
	out.Grow(1 << 20) // growing leaves copies
	encoder := png.Encoder{CompressionLevel: png.NoCompression}
	if err := encoder.Encode(&out, src); err != nil {
		t.Fatal(err)
	}
	clear(src.Pix)
	exif := bytes.Clone(onItsSide[10:])
	exif[19] = orientation
	file := withChunk(out.Bytes(), "eXIf", exif)
	clear(out.Bytes())
	return file
}
