// Package goldentest has the pictures that diffusers made of whole pipelines
// (0.39, PyTorch 2.8, float32 on the CPU), their jobs, and how near to come.
package goldentest

import (
	"bufio"
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/imgus/worker/job"
)

// Bounds of a difference to a golden picture, of 255: a guidance of 7.4 in place
// of 7.5 has a mean of 0.36 already.
const (
	Most = 2
	Mean = 0.02
)

func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "testdata")
}

// Models is the folder of the models that the jobs name.
func Models() string { return filepath.Join(root(), "models") }

// Folder has jobs.jsonl, the photos and the pictures.
func Folder() string { return filepath.Join(root(), "golden") }

// Jobs are the golden jobs.
func Jobs(t testing.TB) []*job.Job {
	t.Helper()
	var jobs []*job.Job
	lines := bufio.NewScanner(bytes.NewReader(File(t, "jobs.jsonl")))
	for lines.Scan() {
		j, err := job.Parse(lines.Bytes(), job.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// File reads a file of the folder.
func File(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Folder(), name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Decode decodes a PNG.
func Decode(t testing.TB, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// Difference gives the largest and the mean difference of two PNGs' 8-bit
// channels.
func Difference(t testing.TB, a, b []byte) (most int, mean float64) {
	t.Helper()
	x, y := Decode(t, a), Decode(t, b)
	if x.Bounds() != y.Bounds() {
		t.Fatalf("size is %v, want %v", x.Bounds(), y.Bounds())
	}
	sum, n := 0, 0
	for v := range x.Bounds().Dy() {
		for u := range x.Bounds().Dx() {
			r1, g1, b1, _ := x.At(u, v).RGBA()
			r2, g2, b2, _ := y.At(u, v).RGBA()
			for _, pair := range [][2]uint32{{r1, r2}, {g1, g2}, {b1, b2}} {
				d := max(int(pair[0]>>8), int(pair[1]>>8)) - min(int(pair[0]>>8), int(pair[1]>>8))
				most, sum, n = max(most, d), sum+d, n+1
			}
		}
	}
	return most, float64(sum) / float64(n)
}
