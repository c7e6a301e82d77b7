package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
)

const vocabulary = "http://cv.iptc.org/newscodes/digitalsourcetype/"

// checkMarks reads the pictures with exiftool: each says what it is by IPTC's
// properties, and tells nothing else.
func checkMarks(t *testing.T, system string, files []string, records []*job.Record) {
	t.Helper()
	for i, tags := range testservices.Exiftool(t, files...) {
		r := records[i]
		want := map[string]any{
			"XMP-iptcExt:DigitalSourceType": vocabulary + "trainedAlgorithmicMedia", "XMP-iptcExt:AISystemUsed": system,
			"XMP-iptcExt:AISystemVersionUsed": version, "XMP-xmp:CreatorTool": system + " " + version, "XMP-dc:Identifier": r.ID,
		}
		if r.Kind != job.TextToImage {
			want["XMP-iptcExt:DigitalSourceType"] = vocabulary + "compositeWithTrainedAlgorithmicMedia"
		}
		for tag, value := range want {
			if tags[tag] != value {
				t.Errorf("%s: %s is %v, want %v", files[i], tag, tags[tag], value)
			}
		}
		for tag, value := range tags {
			group, name, _ := strings.Cut(tag, ":")
			if strings.HasPrefix(group, "XMP") && want[tag] == nil || group == "IFD0" || group == "GPS" || group == "IPTC" || name == "Warning" || name == "Error" || name == "Comment" {
				t.Errorf("%s: %s is %v", files[i], tag, value)
			}
		}
	}
}

// Every kind of job in every format comes out marked, whichever process the
// engine is.
func TestGeneratedPicturesAreMarked(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "photo.png"), readFile(t, golden, "photo-64x64-0.png"))
	var jobs []string
	for _, format := range job.Formats() {
		for kind, more := range map[job.Kind]string{
			job.TextToImage: "", job.ImageToImage: `,"strength":0.5,"input":"photo.png"`, job.Inpaint: `,"strength":0.5,"input":"photo.png","mask":"photo.png"`,
		} {
			jobs = append(jobs, fmt.Sprintf(`{"version":1,"id":%q,"kind":%q,"model":"sd1","prompt":"never told","steps":2,"width":64,"height":64,"images":2,"output":{"format":%q}%s}`,
				string(format)+"-"+string(kind), kind, format, more))
		}
	}
	file := writeFile(t, filepath.Join(dir, "jobs.jsonl"), []byte(strings.Join(jobs, "\n")))
	for _, isolate := range []string{"--isolate=false", "--isolate"} {
		t.Run(isolate, func(t *testing.T) {
			out := t.TempDir()
			stdout, _ := newProgram(t, "IMGUS_MARK_SYSTEM=Fotos & mehr").must(0, "generate", isolate, "--models", testModels, "--jobs", file, "--output", out, "--json")
			var files []string
			var records []*job.Record
			for _, r := range lines[*job.Record](t, stdout) {
				for _, image := range r.Images {
					files, records = append(files, filepath.Join(out, image.Key)), append(records, r)
				}
			}
			if len(files) != 18 {
				t.Fatalf("%d pictures", len(files))
			}
			checkMarks(t, "Fotos & mehr", files, records)
		})
	}
}

func TestDemoIsMarked(t *testing.T) {
	dir := t.TempDir()
	stdout, _ := newProgram(t).must(0, "demo", "--output", dir, "--steps", "1", "--json")
	r := oneRecord(t, stdout)
	checkMarks(t, "imgus", []string{filepath.Join(dir, r.Images[0].Key)}, []*job.Record{r})
}

func TestMarkCanBeTurnedOff(t *testing.T) {
	dir := t.TempDir()
	stdout, _ := newProgram(t, "IMGUS_MARK_ENABLED=false").must(0, "generate", "--model", "demo", "--prompt", "x", "--steps", "1", "--output", dir)
	for tag := range testservices.Exiftool(t, filepath.Join(dir, oneRecord(t, stdout).Images[0].Key))[0] {
		if strings.HasPrefix(tag, "XMP") {
			t.Errorf("it has %s", tag)
		}
	}
}

// What the daemon stores is marked, and told by the record's digest.
func TestStoredPicturesAreMarked(t *testing.T) {
	s := newStation(t)
	stop := s.daemon()
	var ids []string
	for _, format := range job.Formats() {
		id := "of-" + string(format)
		s.must(0, "enqueue", "--id", id, "--model", "sd1", "--prompt", "x", "--steps", "2", "--strength", "0.5", "--format", string(format),
			"--input", filepath.Join(golden, "photo-64x64-0.png"))
		ids = append(ids, id)
	}
	s.await(ids)
	if status, log := stop(); status != 0 || log != "" {
		t.Errorf("exit status %d, log %s", status, log)
	}
	dir := t.TempDir()
	var files []string
	var records []*job.Record
	for _, id := range ids {
		r := s.record(id)
		data, err := s.bucket.Get(t.Context(), r.Images[0].Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		files, records = append(files, writeFile(t, filepath.Join(dir, id), data)), append(records, r)
	}
	checkMarks(t, "imgus", files, records)
}
