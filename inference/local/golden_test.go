package local_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/goldentest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

const testModels = "../../testdata/models"

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
// same jobs.
func TestGolden(t *testing.T) {
	e := open(t)
	for _, j := range goldentest.Jobs(t) {
		t.Run(j.ID, func(t *testing.T) {
			result, err := e.Generate(context.Background(), request(t, j))
			if err != nil {
				t.Fatal(err)
			}
			for i, img := range result.Images {
				most, mean := goldentest.Difference(t, img.Data, goldentest.File(t, fmt.Sprintf("%s-%d.png", j.ID, i)))
				if most > goldentest.Most || mean > goldentest.Mean {
					t.Errorf("image %d differs by at most %d, on average %.4f", i, most, mean)
				}
			}
		})
	}
}

func request(t testing.TB, j *job.Job) inference.Request {
	t.Helper()
	r := inference.Request{Job: j}
	if j.Input != nil {
		r.Input = goldentest.File(t, *j.Input)
	}
	if j.Mask != nil {
		r.Mask = goldentest.File(t, *j.Mask)
	}
	return r
}
