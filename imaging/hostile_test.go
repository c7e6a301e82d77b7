package imaging_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/imaging"
)

const pngMagic = "\x89PNG\r\n\x1a\n"

func pngChunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

func pngHeader(w, h uint32) []byte {
	ihdr := binary.BigEndian.AppendUint32(nil, w)
	ihdr = binary.BigEndian.AppendUint32(ihdr, h)
	ihdr = append(ihdr, 8, 2, 0, 0, 0) // 8-bit RGB
	return append([]byte(pngMagic), pngChunk("IHDR", ihdr)...)
}

func riff(chunks ...string) []byte {
	body := "WEBP" + strings.Join(chunks, "")
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

// webpBomb says 1 x 1 in its canvas and 16384 x 16384 in its stream.
var webpBomb = riff(
	"VP8X\x0a\x00\x00\x00"+strings.Repeat("\x00", 10),
	vp8l)

const vp8l = "VP8L\x0c\x00\x00\x00" + "\x2f\xff\xff\xff\x0f" + "\x00\x00\x00\x00\x00\x00\x00"

// scanBomb is a progressive JPEG whose first scan is there n times more.
func scanBomb(t testing.TB, n int) []byte {
	t.Helper()
	data := goldenFile(t, "jpeg-progressive")
	start := bytes.Index(data, []byte("\xff\xda"))
	end := start + bytes.Index(data[start:], []byte("\xff\xc4")) // the next scan's tables
	return bytes.Join([][]byte{data[:end], bytes.Repeat(data[start:end], n), data[end:]}, nil)
}

// secondFrame is where an animated GIF has its second picture.
func secondFrame(t testing.TB) int {
	t.Helper()
	file := goldenFile(t, "gif-animated")
	control := []byte("\x21\xf9\x04")
	first := bytes.Index(file, control)
	second := bytes.Index(file[first+1:], control)
	if first < 0 || second < 0 {
		t.Fatal("no second frame")
	}
	return first + 1 + second + 8
}

func TestDecodeRefuses(t *testing.T) {
	limited := func(change func(*imaging.Limits)) imaging.Limits {
		l := imaging.DefaultLimits()
		change(&l)
		return l
	}
	small := limited(func(l *imaging.Limits) { l.Pixels, l.Side = 500, 40 })
	photo := goldenFile(t, "jpeg-420-27x18") // 486 pixels
	for _, c := range []struct {
		name   string
		data   []byte
		limits imaging.Limits
		err    error
		text   string
	}{
		{"nothing", nil, small, imaging.ErrNotImage, "0 bytes"},
		{"one byte", []byte{0xff}, small, imaging.ErrNotImage, "1 bytes"},
		{"text", []byte("hello, I am not a picture"), small, imaging.ErrNotImage, "25 bytes of an unknown kind: send a JPEG, PNG, WebP or GIF"},
		{"magic only", []byte("\xff\xd8\xff"), small, imaging.ErrNotImage, "JPEG header"},
		{"PNG magic only", []byte(pngMagic), small, imaging.ErrNotImage, "PNG header"},
		{"WebP magic only", riff(), small, imaging.ErrNotImage, "WebP header"},
		{"GIF magic only", []byte("GIF89a"), small, imaging.ErrNotImage, "GIF header"},
		{"bytes", photo, limited(func(l *imaging.Limits) { l.Bytes = int64(len(photo)) - 1 }), imaging.ErrTooLarge, "bytes, the limit is"},
		{"pixels", photo, limited(func(l *imaging.Limits) { l.Pixels = 485 }), imaging.ErrTooLarge, "27 x 18 is 486 pixels, the limit is 485"},
		{"side", photo, limited(func(l *imaging.Limits) { l.Side = 26 }), imaging.ErrTooLarge, "27 x 18 pixels, a side may have 26"},
		{"frames", goldenFile(t, "gif-animated"), limited(func(l *imaging.Limits) { l.Frames = 2 }), imaging.ErrTooLarge, "3 frames, the limit is 2"},
		{"memory", photo, limited(func(l *imaging.Limits) { l.Memory = 486*11/2 - 1 }), imaging.ErrTooLarge, "decoding it takes"},
		{"time", photo, limited(func(l *imaging.Limits) { l.Time = -1 }), imaging.ErrTooLarge, "decoding it takes longer than"},
		{"PNG of 40,000", pngHeader(40000, 40000), imaging.DefaultLimits(), imaging.ErrTooLarge, "40000 x 40000 pixels, a side may have 16384"},
		{"PNG of 2^31", pngHeader(1<<31-1, 1<<31-1), imaging.DefaultLimits(), nil, ""},
		{"PNG without pixels", pngHeader(0, 5), small, imaging.ErrNotImage, ""},
		{"PNG header only", pngHeader(10, 10), small, imaging.ErrNotImage, "PNG"},
		{"WebP bomb", webpBomb, imaging.DefaultLimits(), imaging.ErrNotImage, "WebP"},
		{"WebP cut", goldenFile(t, "exif-6-webp-lossy")[:140], small, imaging.ErrNotImage, "unexpected EOF"},
		{"GIF cut in its second frame", goldenFile(t, "gif-animated")[:secondFrame(t)+15], small, imaging.ErrNotImage, "unexpected EOF"},
		{"GIF without its end", bytes.TrimSuffix(goldenFile(t, "gif"), []byte(";")), small, imaging.ErrNotImage, "unexpected EOF"},
		{"WebP animation without a frame", riff("VP8X\x0a\x00\x00\x00\x02" + strings.Repeat("\x00", 9)), small, imaging.ErrNotImage, "it has no picture"},
		{"scan bomb", scanBomb(t, 100), imaging.DefaultLimits(), imaging.ErrNotImage, "more than 100 scans"},
		{"no limits", photo, imaging.Limits{}, imaging.ErrTooLarge, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			img, err := imaging.Decode(context.Background(), c.data, c.limits)
			runtime.ReadMemStats(&after)
			if img != nil || err == nil {
				t.Fatalf("image %v, error %v", img != nil, err)
			}
			if !errors.Is(err, imaging.ErrNotImage) && !errors.Is(err, imaging.ErrTooLarge) {
				t.Errorf("an error of another kind: %v", err)
			}
			if c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want %q with %q", err, c.err, c.text)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("it took %d bytes", n)
			}
		})
	}
}

// What is not taken is named, with advice.
func TestOtherKinds(t *testing.T) {
	box := func(brands string) string { return "\x00\x00\x00" + string(rune(8+len(brands))) + "ftyp" + brands }
	for data, kind := range map[string]string{
		box("heic\x00\x00\x00\x00mif1heic"):     "a HEIC photo (on an iPhone: Settings, Camera, Formats, Most Compatible): send",
		box("mif1\x00\x00\x00\x00mif1heic"):     "a HEIC photo",
		box("mif1\x00\x00\x00\x00mif1avifmiaf"): "an AVIF picture: send",
		box("avif\x00\x00\x00\x00"):             "an AVIF picture",
		box("isom\x00\x00\x02\x00isomiso2mp41"): "a video",
		"\x7f\xff\xff\xffftypqt  ":              "a video",
		"II*\x00\x08\x00\x00\x00":               "a TIFF",
		"MM\x00+\x00\x08\x00\x00":               "a TIFF",
		"BM......":                              "a BMP",
		"%PDF-1.7":                              "a PDF",
		"<?xml version='1.0'?><svg/>":           "an SVG",
		"\xef\xbb\xbf\n<svg xmlns=''/>":         "an SVG",
		"\xff\x0a....":                          "a JPEG XL",
		"8BPS\x00\x01":                          "a Photoshop document",
		"RIFF\x04\x00\x00\x00WAVE":              "of an unknown kind",
		"ftyp":                                  "4 bytes",
	} {
		_, err := imaging.Decode(context.Background(), []byte(data), imaging.DefaultLimits())
		if !errors.Is(err, imaging.ErrNotImage) || !strings.Contains(err.Error(), kind) || !strings.HasSuffix(err.Error(), "send a JPEG, PNG, WebP or GIF") {
			t.Errorf("%q: %v, want %s", data, err, kind)
		}
	}
}

func TestDecodeAllowsScansAndLimits(t *testing.T) {
	if _, err := imaging.Decode(context.Background(), scanBomb(t, 20), imaging.Limits{Bytes: 1e6, Pixels: 40 * 35, Side: 40, Memory: 1e6, Time: time.Hour}); err != nil {
		t.Error(err)
	}
}

// A file cut anywhere is refused; only a PNG or a GIF may lack its very end.
func TestTruncated(t *testing.T) {
	for _, name := range []string{"jpeg-progressive", "jpeg-420-27x18", "png-interlaced", "png-p-trns", "gif", "gif-part-transparent", "webp-animated", "webp-lossy-27x18", "webp-lossless-alpha", "exif-6-webp-lossy"} {
		data := goldenFile(t, name)
		for n := range data {
			img, err := imaging.Decode(context.Background(), data[:n], imaging.DefaultLimits())
			switch {
			case err == nil && (n < len(data)-8 || bytes.HasPrefix(data, []byte("\xff\xd8")) || bytes.HasPrefix(data, []byte("RIFF"))):
				t.Errorf("%s: %d of %d bytes give %v", name, n, len(data), img.Rect)
			case err != nil && !errors.Is(err, imaging.ErrNotImage):
				t.Errorf("%s: %d of %d bytes: %v", name, n, len(data), err)
			}
		}
	}
}

// endingContext ends after its Err has been asked n times: in a decoder's
// course, whatever the machine's speed.
type endingContext struct {
	context.Context
	n int
}

func (c *endingContext) Err() error {
	c.n--
	if c.n < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func TestContextStopsDecoder(t *testing.T) {
	for _, name := range []string{"jpeg-420-40x35", "png-rgb", "webp-lossy-40x35", "gif", "webp-animated"} {
		for n := range 3 {
			_, err := imaging.Decode(&endingContext{context.Background(), n}, goldenFile(t, name), imaging.DefaultLimits())
			if err == nil || errors.Is(err, imaging.ErrNotImage) {
				t.Errorf("%s, ended after %d: %v", name, n, err)
			}
		}
	}
	// What spends long on few bytes is stopped in its course too: after three
	// reads of the dozen that it has.
	slow := scans(4096, 100)
	slow = append(slow[:len(slow)-2], append(make([]byte, 1<<15), slow[len(slow)-2:]...)...)
	ctx := &endingContext{t.Context(), 3}
	if _, err := imaging.Decode(ctx, slow, imaging.DefaultLimits()); !errors.Is(err, context.DeadlineExceeded) || ctx.n < -3 {
		t.Errorf("error %v, after %d more questions", err, -ctx.n)
	}
	cause := errors.New("the user went away")
	gone, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := imaging.Decode(gone, goldenFile(t, "png-rgb"), imaging.DefaultLimits()); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause", err)
	}
}

// An index outside of the palette has killed processes (CVE-2023-36308).
func TestPaletteTooShort(t *testing.T) {
	src := image.NewPaletted(image.Rect(0, 0, 8, 4), make(color.Palette, 256))
	for i := range src.Palette {
		src.Palette[i] = color.NRGBA{uint8(i), 1, 2, 255}
	}
	for i := range src.Pix {
		src.Pix[i] = uint8(8 * i)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, src); err != nil {
		t.Fatal(err)
	}
	data := file.Bytes()
	at := bytes.Index(data, []byte("PLTE")) - 4
	length := int(binary.BigEndian.Uint32(data[at:]))
	short := pngChunk("PLTE", data[at+8:at+8+3*5])
	data = bytes.Join([][]byte{data[:at], short, data[at+12+length:]}, nil)

	img, err := imaging.Decode(context.Background(), data, imaging.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if got := img.NRGBAAt(7, 3); got != (color.NRGBA{0, 0, 0, 255}) {
		t.Errorf("a pixel without a colour is %v, want black", got)
	}
	if small := imaging.Resize(img, 3, 3); small.Rect.Dx() != 3 {
		t.Error(small.Rect)
	}
}

func TestSixteenBitGrey(t *testing.T) {
	src := image.NewGray16(image.Rect(0, 0, 2, 1))
	src.SetGray16(0, 0, color.Gray16{0x12ff})
	src.SetGray16(1, 0, color.Gray16{0xfe01})
	var file bytes.Buffer
	if err := png.Encode(&file, src); err != nil {
		t.Fatal(err)
	}
	img, err := imaging.Decode(context.Background(), file.Bytes(), imaging.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x12, 0x12, 0x12, 0xff, 0xfe, 0xfe, 0xfe, 0xff}; !bytes.Equal(img.Pix, want) {
		t.Errorf("pixels %x, want %x", img.Pix, want)
	}
}
