package imaging_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/imaging"
)

var formats = []string{"png", "jpeg", "webp"}

func TestEncode(t *testing.T) {
	src := smooth(61, 37)
	for _, c := range []struct {
		format    string
		quality   int
		tolerance int
	}{
		{"png", 0, 0}, {"png", 90, 0}, {"jpeg", 100, 12}, {"jpeg", 90, 30}, {"webp", 100, 0}, {"webp", 90, 30},
	} {
		t.Run(fmt.Sprint(c.format, c.quality), func(t *testing.T) {
			data, err := imaging.Encode(src, c.format, c.quality)
			if err != nil {
				t.Fatal(err)
			}
			got, err := imaging.Decode(context.Background(), data, imaging.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			checkForm(t, got)
			if got.Rect != src.Rect {
				t.Fatalf("bounds %v, want %v", got.Rect, src.Rect)
			}
			if m := maxDifference(pixels(got), pixels(src)); m > c.tolerance {
				t.Errorf("a value differs by %d", m)
			}
			part := src.SubImage(image.Rect(3, 4, 30, 20)).(*image.NRGBA)
			if data, err = imaging.Encode(part, c.format, c.quality); err != nil {
				t.Fatal(err)
			}
			if got, err = imaging.Decode(context.Background(), data, imaging.DefaultLimits()); err != nil {
				t.Fatal(err)
			}
			if m := maxDifference(pixels(got), pixels(imaging.Crop(src, part.Rect))); m > c.tolerance {
				t.Errorf("a value of a part differs by %d", m)
			}
		})
	}
}

func smooth(w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		x, y := i%w, i/w
		copy(img.Pix[4*i:], []uint8{uint8(255 * x / w), uint8(255 * y / h), uint8(255 * (x + y) / (w + h)), 255})
	}
	return img
}

func TestEncodeRefuses(t *testing.T) {
	img := smooth(4, 4)
	for _, c := range []struct {
		format  string
		quality int
	}{{"gif", 90}, {"", 90}, {"jpeg", 0}, {"jpeg", 101}, {"webp", -1}} {
		if _, err := imaging.Encode(img, c.format, c.quality); err == nil {
			t.Errorf("%q of quality %d: no error", c.format, c.quality)
		}
	}
}

// What a photo tells beside its pixels must not survive: no planted text, and no
// part of a file that could carry one.
func TestMetadataDoesNotSurvive(t *testing.T) {
	for _, c := range readGolden().Marked {
		if !bytes.Contains(c.File, []byte("CANARY")) {
			t.Fatalf("%s: no canary to look for", c.Name)
		}
		img, err := imaging.Decode(context.Background(), c.File, imaging.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		for _, format := range formats {
			for _, quality := range []int{90, 100} {
				out, err := imaging.Encode(img, format, quality)
				if err != nil {
					t.Fatal(err)
				}
				for _, trace := range []string{"CANARY", "Exif", "GPS", "xmp", "adobe", "ICC"} {
					if bytes.Contains(out, []byte(trace)) {
						t.Errorf("%s to %s: %s survives", c.Name, format, trace)
					}
				}
				want := pixelParts[format]
				if format == "webp" && quality == 100 {
					want = []string{"VP8L"}
				}
				if diff := cmp.Diff(want, slices.Compact(parts(t, format, out))); diff != "" {
					t.Errorf("%s to %s: parts (-want +got):\n%s", c.Name, format, diff)
				}
			}
		}
	}
}

var pixelParts = map[string][]string{
	"png":  {"IHDR", "IDAT", "IEND"},
	"jpeg": {"db", "c0", "c4", "da", "d9"}, // tables, frame, tables, scan, end
	"webp": {"VP8 "},
}

// parts names the parts of a file in their order.
func parts(t *testing.T, format string, data []byte) (names []string) {
	t.Helper()
	switch format {
	case "png":
		for rest := data[8:]; len(rest) > 0; rest = rest[12+binary.BigEndian.Uint32(rest):] {
			names = append(names, string(rest[4:8]))
		}
	case "jpeg":
		for i := 2; i+1 < len(data); {
			if data[i] != 0xff || data[i+1] == 0 {
				i++
				continue
			}
			names = append(names, fmt.Sprintf("%x", data[i+1]))
			i += 2
			if i+1 < len(data) {
				i += int(binary.BigEndian.Uint16(data[i:]))
			}
		}
	case "webp":
		for rest := data[12:]; len(rest) > 0; {
			length := binary.LittleEndian.Uint32(rest[4:])
			names = append(names, string(rest[:4]))
			rest = rest[8+length+length&1:]
		}
	}
	return names
}

func BenchmarkEncode(b *testing.B) {
	img := smooth(1024, 1024)
	for _, format := range formats {
		b.Run(format, func(b *testing.B) {
			for b.Loop() {
				if _, err := imaging.Encode(img, format, 90); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
