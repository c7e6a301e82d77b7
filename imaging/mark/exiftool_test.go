package mark_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/imaging/mark"
	"github.com/imgus/worker/internal/testservices"
)

// An independent reader finds the mark in every kind of file, and nothing else
// that would tell of the picture's making.
func TestExiftoolReadsTheMark(t *testing.T) {
	dir := t.TempDir()
	var files []string
	var want []map[string]any
	for i, form := range forms {
		for _, m := range []mark.Mark{
			sample,
			{Source: mark.CompositeWithTrainedAlgorithmicMedia, System: `Fotos & "Träume" <3>`, Version: "v0.1-7-gabc", ID: "A.b_c-9"},
		} {
			data, err := m.Write(picture(t, 33, 17+i, form.format, form.quality, byte(i)))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, fmt.Sprintf("%d.%s", len(files), form.format))
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
			want = append(want, map[string]any{
				"XMP-iptcExt:DigitalSourceType": string(m.Source), "XMP-iptcExt:AISystemUsed": m.System,
				"XMP-iptcExt:AISystemVersionUsed": m.Version, "XMP-xmp:CreatorTool": m.System + " " + m.Version, "XMP-dc:Identifier": m.ID,
			})
		}
	}
	for i, tags := range testservices.Exiftool(t, files...) {
		told := map[string]any{}
		for tag, value := range tags {
			switch group, _, _ := strings.Cut(tag, ":"); group {
			case "SourceFile", "System", "File", "PNG", "RIFF", "Composite": // of the file itself
			case "ExifTool":
				if tag == "ExifTool:Warning" || tag == "ExifTool:Error" {
					t.Errorf("%s: %v", files[i], value)
				}
			default:
				told[tag] = value
			}
		}
		if diff := cmp.Diff(want[i], told); diff != "" {
			t.Errorf("%s (-want +got):\n%s", files[i], diff)
		}
		if w, h := tags["File:ImageWidth"], tags["PNG:ImageWidth"]; i >= 4 && w == nil && h == nil && tags["RIFF:ImageWidth"] != 33.0 {
			t.Errorf("%s: the canvas is %v wide", files[i], tags["RIFF:ImageWidth"])
		}
	}
}
