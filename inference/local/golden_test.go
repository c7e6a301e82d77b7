package local_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

const (
	testModels = "../../testdata/models"
	golden     = "../../testdata/golden"
)

// The engine's ONNX Runtime is one per process, so the tests share one engine.
func open(t testing.TB) *local.Engine {
	t.Helper()
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), Worker: "test",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// TestGolden compares whole pipelines with images that diffusers made of the
// same jobs (0.39, PyTorch 2.8, float32 on the CPU).
func TestGolden(t *testing.T) {
	e := open(t)
	for _, j := range goldenJobs(t) {
		t.Run(j.ID, func(t *testing.T) {
			result, err := e.Generate(context.Background(), request(t, j))
			if err != nil {
				t.Fatal(err)
			}
			for i, img := range result.Images {
				got, err := png.Decode(bytes.NewReader(img.Data))
				if err != nil {
					t.Fatal(err)
				}
				most, mean := compare(t, got, readPNG(t, fmt.Sprintf("%s-%d.png", j.ID, i)))
				if most > 2 || mean > 0.02 {
					t.Errorf("image %d differs by at most %d, on average %.4f", i, most, mean)
				}
			}
		})
	}
}

func goldenJobs(t testing.TB) []*job.Job {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, "jobs.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var jobs []*job.Job
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		j, err := job.Decode(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

func request(t testing.TB, j *job.Job) inference.Request {
	t.Helper()
	r := inference.Request{Job: j}
	for _, input := range []struct {
		key  *string
		data *[]byte
	}{{j.Input, &r.Input}, {j.Mask, &r.Mask}} {
		if input.key == nil {
			continue
		}
		var err error
		if *input.data, err = os.ReadFile(filepath.Join(golden, *input.key)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func readPNG(t *testing.T, name string) image.Image {
	t.Helper()
	data, err := fs.ReadFile(os.DirFS(golden), name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// compare gives the largest and the mean difference of the 8-bit channels.
func compare(t *testing.T, a, b image.Image) (most int, mean float64) {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("size is %v, want %v", a.Bounds(), b.Bounds())
	}
	sum, n := 0, 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			for _, pair := range [][2]uint32{{r1, r2}, {g1, g2}, {b1, b2}} {
				d := max(int(pair[0]>>8), int(pair[1]>>8)) - min(int(pair[0]>>8), int(pair[1]>>8))
				most, sum, n = max(most, d), sum+d, n+1
			}
		}
	}
	return most, float64(sum) / float64(n)
}
