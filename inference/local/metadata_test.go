package local_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// telling is a photo full of what must not survive, each text of it with CANARY:
// EXIF with serial number, GPS and thumbnail, XMP, IPTC, comments, a trailer.
type telling struct {
	Name string
	File []byte
}

func tellingPhotos(t *testing.T) []telling {
	t.Helper()
	data, err := os.ReadFile("../../imaging/testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Marked []telling }
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Marked) < 4 {
		t.Fatalf("%d photos", len(golden.Marked))
	}
	return golden.Marked
}

// edited makes pictures of every such photo in every format, marked as made by AI
// as the worker does it.
func edited(t *testing.T, each func(photo string, result *inference.Result)) {
	t.Helper()
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), Worker: "test", Mark: "imgus",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, photo := range tellingPhotos(t) {
		if !bytes.Contains(photo.File, []byte("CANARY")) {
			t.Fatalf("%s: no canary to look for", photo.Name)
		}
		for _, format := range []job.Format{job.PNG, job.JPEG, job.WebP} {
			j := small("a")
			j.Kind, j.Input, j.Strength, j.Output = job.ImageToImage, new("inputs/CANARY.jpg"), new(0.5), &job.Output{Format: &format}
			result, err := e.Generate(t.Context(), inference.Request{Job: j, Input: slices.Clone(photo.File)})
			if err != nil {
				t.Fatalf("%s: %v", photo.Name, err)
			}
			each(photo.Name, result)
		}
	}
}

// Nothing that a photo tells beside its pixels reaches a picture or its record.
func TestMetadataReachesNoPicture(t *testing.T) {
	edited(t, func(photo string, result *inference.Result) {
		facts, err := json.Marshal([]any{result.Model, result.Parameters, result.Engine})
		if err != nil {
			t.Fatal(err)
		}
		for _, trace := range []string{"CANARY", "GPS", "Exif", "Photoshop", "thumbnail"} {
			if bytes.Contains(result.Images[0].Data, []byte(trace)) || bytes.Contains(facts, []byte(trace)) {
				t.Errorf("%s to %s: %s survives", photo, result.Images[0].Format, trace)
			}
		}
	})
}

// An independent reader finds nothing but the mark either.
func TestExiftoolFindsNoMetadata(t *testing.T) {
	dir := t.TempDir()
	var files []string
	edited(t, func(photo string, result *inference.Result) {
		file := filepath.Join(dir, fmt.Sprintf("%s.%s", photo, result.Images[0].Format))
		if err := os.WriteFile(file, result.Images[0].Data, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	})
	for i, tags := range testservices.Exiftool(t, files...) {
		name := filepath.Base(files[i])
		marked := false
		for tag, value := range tags {
			group, tag, _ := strings.Cut(tag, ":")
			switch group {
			case "SourceFile", "ExifTool", "System", "File", "PNG", "RIFF", "Composite": // of the file itself
			case "XMP-iptcExt", "XMP-xmp", "XMP-dc", "XMP-x":
				marked = true
			default:
				t.Errorf("%s has %s:%s", name, group, tag)
			}
			if strings.Contains(fmt.Sprint(value), "CANARY") || tag == "Comment" || strings.HasPrefix(tag, "GPS") {
				t.Errorf("%s: %s is %v", name, tag, value)
			}
		}
		if !marked {
			t.Errorf("%s has no mark: the reader finds nothing at all", name)
		}
	}
}
