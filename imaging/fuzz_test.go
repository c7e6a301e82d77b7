package imaging_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/imaging"
)

// FuzzDecode takes any bytes, and so does sniffing.
func FuzzDecode(f *testing.F) {
	seed(f, "")
	for _, b := range bombs {
		if strings.Contains(b.name, "MB") || strings.Contains(b.name, "megapixels") { // slow to make, and soon refused
			continue
		}
		if file := b.make(f); len(file) < 1<<17 {
			f.Add(file)
		}
	}
	f.Add([]byte("\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif"))
	f.Fuzz(checkDecode)
}

// The targets that follow stay with one kind of file.

func FuzzJPEG(f *testing.F) { fuzzKind(f, "\xff\xd8\xff", nil) }

func FuzzPNG(f *testing.F) { fuzzKind(f, pngMagic, mendPNG) }

func FuzzWebP(f *testing.F) { fuzzKind(f, "RIFF", nil) }

func FuzzGIF(f *testing.F) { fuzzKind(f, "GIF8", nil) }

// fuzzKind begins every file as its kind does, and mends what would keep the
// decoder from seeing more of it.
func fuzzKind(f *testing.F, magic string, mend func([]byte)) {
	f.Helper()
	seed(f, magic)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < len(magic) {
			return
		}
		data = append([]byte(magic), data[len(magic):]...)
		if mend != nil {
			mend(data)
		}
		checkDecode(t, data)
	})
}

// mendPNG sets the chunks' checksums.
func mendPNG(data []byte) {
	for rest := data[8:]; len(rest) >= 12; {
		length := int64(binary.BigEndian.Uint32(rest))
		if length > int64(len(rest)-12) {
			return
		}
		copy(rest, pngChunk(string(rest[4:8]), rest[8:8+length]))
		rest = rest[12+length:]
	}
}

// seed adds the golden files of a kind.
func seed(f *testing.F, magic string) {
	f.Helper()
	add := func(file []byte) {
		if bytes.HasPrefix(file, []byte(magic)) {
			f.Add(file)
		}
	}
	for _, d := range readGolden().Decoded {
		add(d.File)
	}
	for _, d := range readGolden().Marked {
		add(d.File)
	}
	for _, d := range readGolden().Coloured {
		add(d.File)
	}
}

// checkDecode holds what Decode promises of any bytes.
func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	limits := imaging.Limits{Bytes: 1 << 20, Pixels: 1 << 16, Side: 1 << 10, Frames: 10, Memory: 1 << 22, Time: time.Hour}
	img, err := imaging.Decode(context.Background(), data, limits)
	if err != nil {
		if !errors.Is(err, imaging.ErrNotImage) && !errors.Is(err, imaging.ErrTooLarge) {
			t.Fatalf("an error of another kind: %v", err)
		}
		return
	}
	checkForm(t, img)
	if size := img.Rect.Size(); size.X > limits.Side || size.Y > limits.Side || int64(size.X*size.Y) > limits.Pixels {
		t.Fatalf("%v is above the limits", size)
	}
}

// FuzzOrientation puts any bytes where EXIF and XMP are: they turn the picture or do
// nothing, and are never an error.
func FuzzOrientation(f *testing.F) {
	f.Add([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("II*\x00\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00\x00\x00<x tiff:Orientation=\"8\"/>"))
	f.Add([]byte{})
	plain := goldenFile(f, "exif-1-png")
	at := bytes.Index(plain, []byte("eXIf")) - 4
	end := at + 12 + int(binary.BigEndian.Uint32(plain[at:]))
	f.Fuzz(func(t *testing.T, exif []byte) {
		if len(exif) > 1<<16 {
			return
		}
		data := bytes.Join([][]byte{plain[:at], pngChunk("eXIf", exif), pngChunk("iTXt", append([]byte("XML:com.adobe.xmp\x00"), exif...)), plain[end:]}, nil)
		img, err := imaging.Decode(context.Background(), data, imaging.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		checkForm(t, img)
		if size := img.Rect.Size(); size != image.Pt(7, 4) && size != image.Pt(4, 7) {
			t.Fatalf("size %v", size)
		}
	})
}
