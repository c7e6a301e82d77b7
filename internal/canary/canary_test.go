package canary_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/internal/canary"
	"github.com/imgus/worker/internal/testservices"
)

func TestFindsEveryForm(t *testing.T) {
	s := canary.New()
	text := s.Text("job", "prompt")
	forms := map[string]string{
		"plain": text, "hex": hex.EncodeToString([]byte(text)), "quoted": fmt.Sprintf("%q", text),
		"numbers": fmt.Sprint([]byte(text)), "words": strings.ReplaceAll(fmt.Sprint([]byte(text)), " ", ","), "upper": strings.ToUpper(text), //nolint:staticcheck // numbers are meant
		"register": fmt.Sprintf("rax    0x%x%x%x%x%x%x%x%x", text[9], text[8], text[7], text[6], text[5], text[4], text[3], text[2]),
	}
	for i := range 3 {
		forms[fmt.Sprint("base64 ", i)] = base64.StdEncoding.EncodeToString([]byte("abc"[:i] + text + " and more"))
	}
	var wide []byte
	for _, u := range utf16.Encode([]rune(text)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	forms["wide"] = string(wide)
	for name, form := range forms {
		if len(s.Find([]byte("before "+form+" after"))) == 0 {
			t.Errorf("%s: not found in %s", name, form)
		}
		if hits := canary.New().Find([]byte(form)); hits != nil {
			t.Errorf("%s: another run finds %s", name, hits)
		}
	}
	if hits := s.Find([]byte(text)); len(hits) != 1 || !strings.Contains(hits[0], "job-prompt") {
		t.Errorf("hits are %s", hits)
	}
}

func TestFindsFiles(t *testing.T) {
	s := canary.New()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", s.Text("j", "name")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "file"), []byte(s.Text("j", "content")), 0o600); err != nil {
		t.Fatal(err)
	}
	hits, err := s.FindInFiles(dir)
	if err != nil || len(hits) != 2 {
		t.Errorf("hits are %q, %v", hits, err)
	}
}

// The photos are photos, and exiftool finds what was planted.
func TestPhotos(t *testing.T) {
	s := canary.New()
	dir := t.TempDir()
	for name, photo := range map[string][]byte{"a.jpg": s.JPEG("j"), "b.png": s.PNG("j")} {
		for _, place := range canary.Places {
			if !bytes.Contains(photo, []byte(s.Text("j", place))) {
				t.Errorf("%s has no canary for %s", name, place)
			}
		}
		img, err := imaging.Decode(t.Context(), photo, imaging.DefaultLimits())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "b.png" {
			var row []byte
			for i := range 32 {
				row = append(row, img.Pix[4*i:4*i+3]...)
			}
			if len(s.Find(row)) == 0 {
				t.Error("the pixels spell no canary")
			}
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, photo, 0o600); err != nil {
			t.Fatal(err)
		}
		tags := testservices.Exiftool(t, file)[0]
		for tag, place := range map[string]string{
			"IFD0:ImageDescription": "description", "IFD0:Artist": "artist", "GPS:GPSAreaInformation": "gps", "XMP-dc:Identifier": "xmp",
		} {
			if tags[tag] != s.Text("j", place) {
				t.Errorf("%s: %s is %v", name, tag, tags[tag])
			}
		}
		if tags["GPS:GPSLatitude"] == nil || tags["IFD1:ThumbnailOffset"] == nil || tags["ExifTool:Error"] != nil {
			t.Errorf("%s: %v", name, tags)
		}
	}
}
