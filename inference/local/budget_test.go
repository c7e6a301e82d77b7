package local_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// Real models come and go under a budget that holds one or two of them.
func TestRealModelsUnderABudget(t *testing.T) {
	e := openBudget(t, 24*mib)
	evicted := false
	for range 2 {
		for _, name := range []string{"sd1", "sdxl", "lcm", "turbo", "pix2pix", "inpaint9", "sd2v"} {
			if err := e.WarmUp(t.Context(), inference.WarmUp{Model: name}); err != nil {
				t.Fatal(name, err)
			}
			s, err := e.Status(t.Context())
			if err != nil || s.Models[0].Name != name || s.MemoryUsed <= 0 {
				t.Fatalf("%s: status is %+v, %v", name, s, err)
			}
			evicted = evicted || len(s.Models) < 7
		}
	}
	if !evicted {
		t.Error("seven models fit into 24 MiB")
	}
}

// What a real model takes is measured, and what it would take for a larger
// picture foreseen.
func TestRealJobThatCannotFit(t *testing.T) {
	e := openBudget(t, 256*mib)
	if err := e.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Width: 256, Height: 256}); err != nil {
		t.Fatal(err)
	}
	j := small("large")
	j.Width, j.Height = new(2048), new(2048)
	_, err := e.Generate(t.Context(), inference.Request{Job: j})
	if known := job.AsError(err); known.Code != job.OutOfMemory || errors.Is(err, onnx.ErrOutOfMemory) || !strings.Contains(known.Message, "may use 256.0 MiB") {
		t.Errorf("a picture that cannot fit: %v", err)
	}
	if _, err := e.Generate(t.Context(), inference.Request{Job: small("next")}); err != nil {
		t.Error(err)
	}
}

func openBudget(t *testing.T, bytes int64) *local.Engine {
	t.Helper()
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), MemoryBudget: bytes,
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
