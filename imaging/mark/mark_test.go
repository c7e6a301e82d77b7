package mark_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/imaging/mark"
	"github.com/imgus/worker/job"
)

// fataler is a test, or a run of a property.
type fataler interface{ Fatal(args ...any) }

// picture is an encoded picture of noise drawn from the seed.
func picture(t fataler, w, h int, format string, quality int, seed byte) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	state := uint32(seed) + 1
	for i := range img.Pix {
		state = state*1664525 + 1013904223
		img.Pix[i] = byte(state >> 24)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	data, err := imaging.Encode(img, format, quality)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var forms = []struct {
	format  string
	quality int
}{{"png", 90}, {"jpeg", 90}, {"webp", 90}, {"webp", 100}}

var sample = mark.Mark{Source: mark.TrainedAlgorithmicMedia, System: "imgus", Version: "1.2.3", ID: "0197-job"}

func TestOf(t *testing.T) {
	for kind, want := range map[job.Kind]mark.Source{
		job.TextToImage: mark.TrainedAlgorithmicMedia, job.ImageToImage: mark.CompositeWithTrainedAlgorithmicMedia,
		job.Inpaint: mark.CompositeWithTrainedAlgorithmicMedia,
	} {
		j := &job.Job{ID: "a", Kind: kind}
		if got := mark.Of(j, "imgus", "1"); got != (mark.Mark{Source: want, System: "imgus", Version: "1", ID: "a"}) {
			t.Errorf("%s: %+v", kind, got)
		}
	}
}

// Whatever the mark, the picture carries that one and no other, and shows the
// same pixels.
func TestWriteAndVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		form := rapid.SampledFrom(forms).Draw(t, "form")
		plain := picture(t, rapid.IntRange(1, 40).Draw(t, "width"), rapid.IntRange(1, 40).Draw(t, "height"), form.format, form.quality, rapid.Byte().Draw(t, "seed"))
		text := rapid.StringN(1, 64, 200)
		m := mark.Mark{
			Source: rapid.SampledFrom([]mark.Source{mark.TrainedAlgorithmicMedia, mark.CompositeWithTrainedAlgorithmicMedia}).Draw(t, "source"),
			System: text.Draw(t, "system"), Version: text.Draw(t, "version"), ID: text.Draw(t, "id"),
		}
		before := bytes.Clone(plain)
		marked, err := m.Write(plain)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(plain, before) {
			t.Fatal("the plain picture was changed")
		}
		if err := m.Verify(marked); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(decode(t, plain), decode(t, marked)) {
			t.Fatal("the pixels changed")
		}
		if m.Verify(plain) == nil {
			t.Fatal("a picture without a mark passes")
		}
		if _, err := m.Write(marked); err == nil {
			t.Fatal("a mark is written twice")
		}
		other := m
		other.ID += "x"
		if other.Verify(marked) == nil {
			t.Fatal("another job's mark passes")
		}
		// No single byte can change unseen but for those of the pixels.
		i := rapid.IntRange(0, len(marked)-1).Draw(t, "position")
		changed := bytes.Clone(marked)
		changed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		packet := bytes.Index(marked, []byte("<?xpacket begin"))
		end := packet + bytes.Index(marked[packet:], []byte(`<?xpacket end="r"?>`))
		if i >= packet && i < end && m.Verify(changed) == nil {
			t.Fatal("a changed mark passes")
		}
		if cut := rapid.IntRange(0, len(marked)-1).Draw(t, "cut"); m.Verify(marked[:cut]) == nil {
			t.Fatalf("cut to %d of %d it passes", cut, len(marked))
		}
	})
}

func decode(t fataler, data []byte) []byte {
	img, err := imaging.Decode(context.Background(), data, imaging.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return append(img.Pix, img.Rect.String()...)
}

func pngChunk(kind, data string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return string(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:])))
}

func riffChunk(kind, data string) string {
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data)))
	return string(append(b, data...)) + strings.Repeat("\x00", len(data)&1)
}

func riff(chunks ...string) string {
	body := "WEBP" + strings.Join(chunks, "")
	return string(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body)))) + body
}

// Beside the mark nothing is let through that could tell of a photo, and no
// second mark.
func TestVerifyRefuses(t *testing.T) {
	marked := map[string]string{}
	for _, form := range forms[:3] {
		data, err := sample.Write(picture(t, 16, 16, form.format, form.quality, 1))
		if err != nil {
			t.Fatal(err)
		}
		marked[form.format] = string(data)
	}
	png, jpeg, webp := marked["png"], marked["jpeg"], marked["webp"]
	const afterIHDR = 8 + 25
	length := binary.BigEndian.Uint32([]byte(png[afterIHDR:]))
	itxt := png[afterIHDR : afterIHDR+12+length]
	app1 := jpeg[2 : 4+binary.BigEndian.Uint16([]byte(jpeg[4:]))]
	vp8x, vp8, xmp := webp[12:30], "", ""
	for rest := webp[30:]; rest != ""; {
		n := 8 + binary.LittleEndian.Uint32([]byte(rest[4:]))
		n += n & 1
		if rest[:4] == "XMP " {
			xmp = rest[:n]
		} else {
			vp8 = rest[:n]
		}
		rest = rest[n:]
	}
	if riff(vp8x, vp8, xmp) != webp {
		t.Fatal("the test reads WebP wrongly")
	}
	flags := func(b byte) string { return vp8x[:8] + string(b) + vp8x[9:] }
	for name, data := range map[string]string{
		"nothing":                "",
		"no picture":             "<?xpacket",
		"PNG, mark last":         png[:afterIHDR] + png[afterIHDR+len(itxt):len(png)-12] + itxt + png[len(png)-12:],
		"PNG, two marks":         png[:afterIHDR] + itxt + png[afterIHDR:],
		"PNG, EXIF":              png[:afterIHDR] + pngChunk("eXIf", "MM\x00*") + png[afterIHDR:],
		"PNG, text":              png[:afterIHDR] + pngChunk("tEXt", "Comment\x00here") + png[afterIHDR:],
		"PNG, something after":   png + "x",
		"PNG, picture after":     png + png[8:],
		"PNG, wrong checksum":    png[:afterIHDR+len(itxt)-1] + "x" + png[afterIHDR+len(itxt):],
		"PNG, length beyond":     png[:afterIHDR] + "\xff\xff\xff\xff" + png[afterIHDR+4:],
		"JPEG, mark last":        jpeg[:2] + jpeg[2+len(app1):len(jpeg)-2] + app1 + jpeg[len(jpeg)-2:],
		"JPEG, two marks":        jpeg[:2] + app1 + jpeg[2:],
		"JPEG, EXIF":             jpeg[:2] + "\xff\xe1\x00\x0aExif\x00\x00MM" + jpeg[2:],
		"JPEG, comment":          jpeg[:2] + "\xff\xfe\x00\x06here" + jpeg[2:],
		"JPEG, comment later":    jpeg[:len(jpeg)-2] + "\xff\xfe\x00\x06here" + jpeg[len(jpeg)-2:],
		"JPEG, something after":  jpeg + "x",
		"JPEG, fill bytes":       jpeg[:2] + "\xff" + jpeg[2:],
		"WebP, mark first":       riff(vp8x, xmp, vp8),
		"WebP, two marks":        riff(vp8x, vp8, xmp, xmp),
		"WebP, EXIF":             riff(flags(0x0c), vp8, riffChunk("EXIF", "MM\x00*"), xmp),
		"WebP, unannounced EXIF": riff(vp8x, vp8, riffChunk("EXIF", "MM\x00*"), xmp),
		"WebP, flag missing":     riff(flags(0), vp8, xmp),
		"WebP, flag of alpha":    riff(flags(0x14), vp8, xmp),
		"WebP, another canvas":   riff(vp8x[:12]+"\x01"+vp8x[13:], vp8, xmp),
		"WebP, two pictures":     riff(vp8x, vp8, vp8, xmp),
		"WebP, no picture":       riff(vp8x, xmp),
		"WebP, something after":  webp + "x",
	} {
		if err := sample.Verify([]byte(data)); err == nil {
			t.Errorf("%s: it passes", name)
		} else if strings.Contains(err.Error(), sample.ID) {
			t.Errorf("%s: the error tells the id", name)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	plain := picture(t, 8, 8, "png", 0, 1)
	for _, m := range []mark.Mark{
		{}, {System: "imgus", Version: "1", ID: "a"}, {Source: sample.Source, Version: "1", ID: "a"},
		{Source: sample.Source, System: "imgus", ID: "a"}, {Source: sample.Source, System: "imgus", Version: "1"},
	} {
		if _, err := m.Write(plain); err == nil {
			t.Errorf("%+v is written", m)
		}
	}
	long := sample
	long.System = strings.Repeat("x", 1<<16)
	if _, err := long.Write(picture(t, 8, 8, "jpeg", 90, 1)); err == nil {
		t.Error("a mark beyond a JPEG segment is written")
	}
	if _, err := sample.Write([]byte("GIF89a")); err == nil {
		t.Error("a GIF is marked")
	}
}

// Strangers' bytes neither crash it nor pass, unless they are what Write makes.
func FuzzVerify(f *testing.F) {
	for _, form := range forms {
		plain := picture(f, 5, 3, form.format, form.quality, 1)
		marked, err := sample.Write(plain)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
		f.Add(marked)
		f.Add(marked[:len(marked)/2])
		f.Add(slices.Concat(marked, marked))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if marked, err := sample.Write(data); err == nil {
			if err := sample.Verify(marked); err != nil {
				t.Errorf("what was written does not verify: %v", err)
			}
			if sample.Verify(data) == nil {
				t.Error("it was marked already")
			}
		}
		if sample.Verify(data) == nil && !bytes.Contains(data, []byte(mark.TrainedAlgorithmicMedia)) {
			t.Error("it passes without a mark")
		}
	})
}
