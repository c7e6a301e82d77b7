package imaging_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/imgus/worker/imaging"
)

// golden is what Pillow says; testdata/golden.py makes it.
type golden struct {
	Resized []struct {
		Picture  string
		From, To [2]int
		SHA256   string
	}
	Filtered []struct {
		Filter   string
		From, To [2]int
		SHA256   string
	}
	Recompressed []struct {
		Picture string
		Size    [2]int
		Quality int
		SHA256  string
	}
	Decoded []struct {
		Name string
		File []byte
		Size [2]int
		RGB  []byte
	}
	Marked []struct { // with metadata, each text of it with CANARY
		Name string
		File []byte
	}
	Coloured []struct { // with a profile; RGB is littlecms's sRGB
		Name string
		File []byte
		RGB  []byte
	}
}

var readGolden = sync.OnceValue(func() golden {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		panic(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		panic(err)
	}
	return g
})

// goldenFile is the file of one golden case.
func goldenFile(t testing.TB, name string) []byte {
	t.Helper()
	for _, d := range readGolden().Decoded {
		if d.Name == name {
			return d.File
		}
	}
	t.Fatalf("no golden file %s", name)
	return nil
}

// pictures are the formulas of testdata/golden.py.
var pictures = map[string]func(x, y, c, i uint32) uint32{
	"waves": func(x, y, c, _ uint32) uint32 {
		return x*x*3 + y*y*5 + x*y*7 + c*85 + (x>>3^y>>3)&1*128
	},
	"noise": func(_, _, _, i uint32) uint32 {
		i = (i ^ i>>7) * 2654435761
		return (i ^ i>>15) >> 8
	},
	"checks": func(x, y, c, _ uint32) uint32 { return (x/2 + y/3 + c) & 1 * 255 },
}

func draw(picture string, w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for p := range w * h {
		for c := range 3 {
			img.Pix[4*p+c] = uint8(pictures[picture](uint32(p%w), uint32(p/w), uint32(c), uint32(3*p+c)))
		}
		img.Pix[4*p+3] = 255
	}
	return img
}

func pixels(img *image.NRGBA) []byte {
	rgb := make([]byte, 0, len(img.Pix)/4*3)
	for i := 0; i < len(img.Pix); i += 4 {
		rgb = append(rgb, img.Pix[i:i+3]...)
	}
	return rgb
}

// checkForm holds the promise of every picture of this package.
func checkForm(t testing.TB, img *image.NRGBA) {
	t.Helper()
	if img.Rect.Min != (image.Point{}) || img.Stride != 4*img.Rect.Dx() || len(img.Pix) != img.Stride*img.Rect.Dy() {
		t.Fatalf("bounds %v, stride %d, %d bytes", img.Rect, img.Stride, len(img.Pix))
	}
	if !img.Opaque() {
		t.Fatal("not opaque")
	}
}

func TestResizeEqualsPillow(t *testing.T) {
	for _, c := range readGolden().Resized {
		t.Run(fmt.Sprintf("%s-%dx%d-%dx%d", c.Picture, c.From[0], c.From[1], c.To[0], c.To[1]), func(t *testing.T) {
			got := imaging.Resize(draw(c.Picture, c.From[0], c.From[1]), c.To[0], c.To[1])
			checkForm(t, got)
			if sum := sha256.Sum256(pixels(got)); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Error("the pixels differ")
			}
		})
	}
}

func TestDecodeEqualsPillow(t *testing.T) {
	for _, c := range readGolden().Decoded {
		t.Run(c.Name, func(t *testing.T) {
			img, err := imaging.Decode(context.Background(), c.File, imaging.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			checkForm(t, img)
			if img.Rect.Size() != image.Pt(c.Size[0], c.Size[1]) {
				t.Fatalf("size %v, want %v", img.Rect.Size(), c.Size)
			}
			tolerance := 0
			if strings.Contains(c.Name, "jpeg") {
				tolerance = 3 // inverse DCTs differ by one, which YCbCr doubles
			}
			if m := maxDifference(pixels(img), c.RGB); m > tolerance {
				t.Errorf("a value differs by %d", m)
			}
		})
	}
}

func maxDifference(a, b []byte) int {
	m := 0
	for i := range a {
		m = max(m, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return m
}

func TestCrop(t *testing.T) {
	src := draw("waves", 20, 10)
	got := imaging.Crop(src, image.Rect(5, 2, 12, 9))
	checkForm(t, got)
	if got.Rect.Size() != image.Pt(7, 7) || got.NRGBAAt(0, 0) != src.NRGBAAt(5, 2) || got.NRGBAAt(6, 6) != src.NRGBAAt(11, 8) {
		t.Errorf("bounds %v", got.Rect)
	}
}

func BenchmarkResize(b *testing.B) {
	src := draw("noise", 4000, 3000)
	b.ReportAllocs()
	for b.Loop() {
		imaging.Resize(src, 1024, 768)
	}
}
