package imaging_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/imgus/worker/imaging"
)

// bomb is a small file that would cost much, and what becomes of it: an error, or
// none where its harm lies in a part that is not even read.
type bomb struct {
	name string
	make func(t testing.TB) []byte
	err  error
}

var bombs = []bomb{
	{"JPEG of 2,300 scans of 16 megapixels", func(testing.TB) []byte { return scans(4096, 2300) }, imaging.ErrNotImage},
	{"JPEG of 49 megapixels without pixels", func(testing.TB) []byte { return scans(7000, 1) }, imaging.ErrNotImage},
	{"JPEG of 4 gigapixels", func(testing.TB) []byte { return scans(65535, 1) }, imaging.ErrTooLarge},
	{"PNG of 30,000 x 30,000 zeros", func(t testing.TB) []byte { return rowsPNG(30000, 1, 0, zeros(t, 30000*(1+30000/8))) }, imaging.ErrTooLarge},
	{"PNG of 49 megapixels of 16 bits, cut", func(t testing.TB) []byte { return rowsPNG(7000, 16, 6, zeros(t, 1<<20)) }, imaging.ErrNotImage},
	{"APNG of 10,000 frames", func(t testing.TB) []byte {
		control := pngChunk("fcTL", make([]byte, 26))
		return before(goldenFile(t, "png-apng"), "IDAT", bytes.Repeat(control, 10000))
	}, imaging.ErrTooLarge},
	{"iCCP of 20 MB", func(t testing.TB) []byte {
		noise := make([]byte, 19<<20)
		_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
		return withProfile(t, goldenFile(t, "png-rgb"), noise)
	}, nil},
	{"iCCP of 64 MB in 64 kB", func(t testing.TB) []byte {
		return withChunk(goldenFile(t, "png-rgb"), "iCCP", append([]byte("x\x00\x00"), zeros(t, 1<<26)...))
	}, nil},
	{"text of 64 MB in 64 kB", func(t testing.TB) []byte {
		return withChunk(goldenFile(t, "png-rgb"), "zTXt", append([]byte("x\x00\x00"), zeros(t, 1<<26)...))
	}, nil},
	{"text of 15 MB", func(t testing.TB) []byte {
		return withChunk(goldenFile(t, "png-rgb"), "tEXt", bytes.Repeat([]byte("x\x00y"), 5<<20))
	}, nil},
	{"XMP nested a million times", func(t testing.TB) []byte {
		return withChunk(goldenFile(t, "png-rgb"), "iTXt", []byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"+strings.Repeat("<a>", 1<<20)))
	}, nil},
	{"XMP nested in JPEG", func(t testing.TB) []byte {
		xmp := "http://ns.adobe.com/xap/1.0/\x00" + strings.Repeat("<a>", 20000)
		segment := append(binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(xmp)+2)), xmp...)
		photo := goldenFile(t, "jpeg-l")
		return bytes.Join([][]byte{photo[:2], bytes.Repeat(segment, 200), photo[2:]}, nil)
	}, nil},
	{"EXIF whose directories go round", func(t testing.TB) []byte {
		entry := "\x87\x69\x00\x04\x00\x00\x00\x01\x00\x00\x00\x08" // the EXIF directory is this one
		return withChunk(goldenFile(t, "png-rgb"), "eXIf", []byte("MM\x00*\x00\x00\x00\x08\xff\xff"+strings.Repeat(entry, 0xffff)+"\x00\x00\x00\x08"))
	}, nil},
	{"JPEG of 100 scans of 49 megapixels, padded", func(testing.TB) []byte {
		file := scans(7000, 100)
		return append(file[:2:2], append(bytes.Repeat(segment(0xfe, strings.Repeat("x", 60000)), 3), file[2:]...)...)
	}, imaging.ErrNotImage},
	{"progressive JPEG of 34 megapixels with full chroma, cut", func(testing.TB) []byte {
		file := flat{5800, 5800, 0xc2, 3, 0x11}.jpeg()
		return file[:len(file)-100]
	}, imaging.ErrTooLarge},
	{"progressive JPEG of 26 megapixels with full chroma, cut", func(testing.TB) []byte {
		file := flat{5100, 5100, 0xc2, 3, 0x11}.jpeg()
		return file[:len(file)-100]
	}, imaging.ErrTooLarge},
	{"JPEG of 48 megapixels of RGB on its side", func(testing.TB) []byte {
		return flat{8064, 6048, 0xc0, 3, 0x22}.jpeg(adobe, onItsSide)
	}, imaging.ErrTooLarge},
	{"CMYK of 25 megapixels", func(testing.TB) []byte {
		return flat{5000, 5000, 0xc0, 4, 0x11}.jpeg(adobe)
	}, imaging.ErrTooLarge},
	{"PNG of 49 megapixels of 16 bits, its last rows cut", func(t testing.TB) []byte {
		return rowsPNG(7000, 16, 6, zeros(t, 6999*(1+7000*8)))
	}, imaging.ErrTooLarge},
	{"PNG of 49 megapixels, its last rows cut", func(t testing.TB) []byte {
		return rowsPNG(7000, 8, 6, zeros(t, 6999*(1+7000*4)))
	}, imaging.ErrNotImage},
	{"interlaced PNG of 48 megapixels", func(t testing.TB) []byte {
		file := rowsPNG(6900, 8, 6, zeros(t, 6900*(2+6900*4)))
		file[28] = 1
		binary.BigEndian.PutUint32(file[29:], crc32.ChecksumIEEE(file[12:29]))
		return file
	}, imaging.ErrTooLarge},
	{"PNG padded with a text", func(t testing.TB) []byte {
		return withChunk(rowsPNG(7000, 8, 6, zeros(t, 1<<20)), "tEXt", bytes.Repeat([]byte("x\x00y"), 1<<20))
	}, imaging.ErrNotImage},
	{"VP8L of 25 megapixels and room for many codes", func(testing.TB) []byte {
		file := oneColour(5000)
		return riff("VP8L" + string(binary.LittleEndian.AppendUint32(nil, 600_000)) + string(file[20:]) + strings.Repeat("\x00", 600_000-len(file[20:])))
	}, imaging.ErrTooLarge},
	{"VP8L of 49 megapixels of one colour", func(testing.TB) []byte { return oneColour(7000) }, imaging.ErrNotImage},
	{"VP8 of 49 megapixels without pixels", func(testing.TB) []byte {
		return riff("VP8 \x14\x00\x00\x00\x10\x00\x00\x9d\x01\x2a\x58\x1b\x58\x1b" + strings.Repeat("\x00", 10))
	}, imaging.ErrNotImage},
	{"VP8L of 16384 x 16384 on a canvas of 1 x 1", func(testing.TB) []byte { return webpBomb }, imaging.ErrNotImage},
	{"VP8L of 16384 x 16384", func(testing.TB) []byte { return riff(vp8l) }, imaging.ErrTooLarge},
	{"VP8L of 16384 x 16384 in a frame of 1 x 1", func(testing.TB) []byte { return animation(1) }, imaging.ErrNotImage},
	{"animated WebP of 10,000 frames", func(testing.TB) []byte { return animation(10000) }, imaging.ErrTooLarge},
	{"GIF with a canvas of 65,535 x 65,535", func(testing.TB) []byte { return frames(65535, 1, 1) }, imaging.ErrTooLarge},
	{"GIF with a frame larger than its canvas", func(testing.TB) []byte { return frames(1, 65535, 1) }, imaging.ErrNotImage},
	{"GIF of an empty frame", func(testing.TB) []byte { return frames(100, 0, 1) }, imaging.ErrNotImage},
	{"GIF of 49 megapixels, cut", func(testing.TB) []byte { return frames(7000, 7000, 1) }, imaging.ErrNotImage},
	{"GIF of 10,000 frames", func(testing.TB) []byte { return frames(1, 1, 10000) }, imaging.ErrTooLarge},
	{"TIFF", func(testing.TB) []byte { return []byte("II*\x00\x08\x00\x00\x00" + strings.Repeat("\xff", 1<<20)) }, imaging.ErrNotImage},
}

// scans is a progressive grey JPEG of side x side pixels, whose n scans say in a
// few bytes each that all coefficients of all blocks are zero.
func scans(side uint16, n int) []byte {
	out := []byte("\xff\xd8\xff\xdb\x00\x43\x00" + strings.Repeat("\x01", 64))
	out = append(out, 0xff, 0xc2, 0, 11, 8)
	out = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(out, side), side)
	out = append(out, 1, 1, 0x11, 0)
	// One code, 0: the end of a run of 2^14 blocks and of as many as 14 bits say.
	out = append(out, "\xff\xc4\x00\x14\x10\x01"+strings.Repeat("\x00", 15)+"\xe0"...)
	blocks := (int(side) + 7) / 8 * ((int(side) + 7) / 8)
	var bits strings.Builder
	for ; blocks > 0; blocks -= 1<<14 + 0x2aaa {
		bits.WriteString("010101010101010")
	}
	for bits.Len()%8 > 0 {
		bits.WriteByte('1')
	}
	scan := []byte("\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00")
	for s := bits.String(); s != ""; s = s[8:] {
		var b byte
		for _, bit := range s[:8] {
			b = b<<1 | byte(bit-'0')
		}
		scan = append(scan, b)
	}
	return append(append(out, bytes.Repeat(scan, n)...), 0xff, 0xd9)
}

// segment is a part of a JPEG.
func segment(marker byte, body string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(body)+2)), body...)
}

// adobe says that three components are RGB, and four CMYK.
var adobe = segment(0xee, "Adobe\x00\x64\x00\x00\x00\x00\x00")

var onItsSide = segment(0xe1, "Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00")

// flat is a JPEG of one colour in one scan.
type flat struct {
	width, height    int
	kind             byte // of the frame: baseline (0xc0), progressive (0xc2)
	components, luma int  // luma's sampling factors, 0x11 or 0x22
}

func (p flat) jpeg(more ...[]byte) []byte {
	frame := string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{8}, uint16(p.height)), uint16(p.width))) + string(rune(p.components))
	scan := string(rune(p.components))
	factors, end := byte(p.luma), "\x00\x3f\x00"
	if p.kind == 0xc2 {
		end = "\x00\x00\x00"
	}
	for i := range p.components {
		frame += string([]byte{byte(i + 1), factors, 0})
		scan += string([]byte{byte(i + 1), 0})
		factors = 0x11
	}
	// One code of one bit: no difference, and the end of the block.
	table := "\x01" + strings.Repeat("\x00", 16)
	side := 8 * (p.luma & 15)
	blocks := (p.width + side - 1) / side * ((p.height + side - 1) / side) * (p.components - 1 + p.luma&15*p.luma>>4)
	return bytes.Join([][]byte{
		[]byte("\xff\xd8"), bytes.Join(more, nil),
		segment(0xdb, "\x00"+strings.Repeat("\x01", 64)), segment(p.kind, frame), segment(0xc4, "\x00"+table+"\x10"+table),
		segment(0xda, scan+end), make([]byte, blocks/4+1), []byte("\xff\xd9"),
	}, nil)
}

// oneColour is a lossless WebP of side x side pixels whose codes take no bits.
func oneColour(side int) []byte {
	size := uint32(side-1) | uint32(side-1)<<14
	stream := append(binary.LittleEndian.AppendUint32([]byte{0x2f}, size), 0x88, 0x88, 8)
	stream = append(stream, make([]byte, 12)...)
	return riff("VP8L" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(stream)))) + string(stream))
}

// zeros is compressed.
func zeros(t testing.TB, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	block := make([]byte, 1<<20)
	for ; n > 0; n -= int64(len(block)) {
		if _, err := z.Write(block[:min(n, int64(len(block)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// rowsPNG is a PNG of compressed rows.
func rowsPNG(side uint32, depth, kind byte, rows []byte) []byte {
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, side), side)
	return bytes.Join([][]byte{[]byte(pngMagic), pngChunk("IHDR", append(ihdr, depth, kind, 0, 0, 0)), pngChunk("IDAT", rows), pngChunk("IEND", nil)}, nil)
}

// before puts bytes before a PNG's chunk.
func before(file []byte, chunk string, more []byte) []byte {
	at := bytes.Index(file, []byte(chunk)) - 4
	return bytes.Join([][]byte{file[:at], more, file[at:]}, nil)
}

// animation is a WebP whose frames of 1 x 1 hold pictures of 16384 x 16384.
func animation(n int) []byte {
	anmf := "ANMF" + string(binary.LittleEndian.AppendUint32(nil, uint32(16+len(vp8l)))) + strings.Repeat("\x00", 16) + vp8l
	return riff("VP8X\x0a\x00\x00\x00\x02"+strings.Repeat("\x00", 9), strings.Repeat(anmf, n))
}

// frames is a GIF without pixels.
func frames(canvas, side uint16, n int) []byte {
	size := func(v uint16) string {
		return string(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, v), v))
	}
	return []byte("GIF89a" + size(canvas) + "\x80\x00\x00" + "\x00\x00\x00\xff\xff\xff" +
		strings.Repeat(",\x00\x00\x00\x00"+size(side)+"\x00\x02\x02\x4c\x01\x00", n) + ";")
}
