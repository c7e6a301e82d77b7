package imaging_test

import (
	"image"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/imaging"
)

func TestToTensor(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	copy(img.Pix, []uint8{0, 255, 128, 255, 1, 2, 3, 255, 127, 64, 32, 0, 254, 253, 252, 255})
	got := make([]float32, 12)
	imaging.ToTensor(got, img)
	// numpy: np.float32(v)/255*2-1
	want := []float32{
		-1, -0.99215686, -0.0039215684, 0.99215686,
		1, -0.9843137, -0.4980392, 0.9843137,
		0.003921628, -0.9764706, -0.7490196, 0.9764706,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestFromTensor(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		x    float32
		want uint8
	}{
		{-1, 0}, {1, 255}, {0, 128 /* 127.5 */}, {-2, 0}, {2, 255}, {inf, 255}, {-inf, 0}, {nan, 0},
		{1.0/255 - 1, 0}, {3.0/255 - 1, 1}, // a half, about: as numpy says
		{0.1, 140}, {-0.1, 115}, {0.9999, 255}, {-0.9999, 0},
	} {
		img := imaging.FromTensor([]float32{c.x, c.x, c.x}, 1, 1)
		checkForm(t, img)
		if got := img.Pix[0]; got != c.want {
			t.Errorf("%v gives %d, want %d", c.x, got, c.want)
		}
	}
}

func TestTensorRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 9).Draw(t, "w"), rapid.IntRange(1, 9).Draw(t, "h")
		img := image.NewNRGBA(image.Rect(0, 0, w, h))
		copy(img.Pix, rapid.SliceOfN(rapid.Byte(), 4*w*h, 4*w*h).Draw(t, "pixels"))
		for i := 3; i < len(img.Pix); i += 4 {
			img.Pix[i] = 255
		}
		tensor := make([]float32, 3*w*h)
		imaging.ToTensor(tensor, img)
		if got := imaging.FromTensor(tensor, w, h); !slices.Equal(got.Pix, img.Pix) {
			t.Fatalf("got %v, want %v", got.Pix, img.Pix)
		}
	})
}

func TestResizeProperties(t *testing.T) {
	size := rapid.IntRange(1, 40)
	rapid.Check(t, func(t *rapid.T) {
		w, h, toW, toH := size.Draw(t, "w"), size.Draw(t, "h"), size.Draw(t, "to w"), size.Draw(t, "to h")
		flat := image.NewNRGBA(image.Rect(0, 0, w, h))
		level := rapid.Byte().Draw(t, "level")
		for i := range flat.Pix {
			flat.Pix[i] = level
			if i%4 == 3 {
				flat.Pix[i] = 255
			}
		}
		got := imaging.Resize(flat, toW, toH)
		if got.Rect != image.Rect(0, 0, toW, toH) {
			t.Fatalf("bounds %v", got.Rect)
		}
		for i, v := range got.Pix {
			if i%4 != 3 && v != level || i%4 == 3 && v != 255 {
				t.Fatalf("a flat picture of %d has %d at %d", level, v, i)
			}
		}
	})
}

func TestToMask(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 6, 1))
	copy(img.Pix, []uint8{
		0, 0, 0, 255, 255, 255, 255, 255, 127, 127, 127, 255, 128, 128, 128, 0,
		255, 0, 0, 255, // grey 76
		0, 255, 0, 255, // grey 150
	})
	got := make([]float32, 6)
	imaging.ToMask(got, img)
	if want := []float32{0, 1, 0, 1, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTensorSizeMismatchPanics(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 2, 2))
	for name, f := range map[string]func(){
		"ToTensor":   func() { imaging.ToTensor(make([]float32, 11), img) },
		"ToMask":     func() { imaging.ToMask(make([]float32, 5), img) },
		"FromTensor": func() { imaging.FromTensor(make([]float32, 11), 2, 2) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s takes a tensor of another size", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkToTensor(b *testing.B) {
	img := smooth(1024, 1024)
	dst := make([]float32, 3*1024*1024)
	b.ReportAllocs()
	for b.Loop() {
		imaging.ToTensor(dst, img)
	}
}

func BenchmarkFromTensor(b *testing.B) {
	src := make([]float32, 3*1024*1024)
	imaging.ToTensor(src, smooth(1024, 1024))
	b.ReportAllocs()
	for b.Loop() {
		imaging.FromTensor(src, 1024, 1024)
	}
}
