package local_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/models"
)

// What is loaded only when a job asks for it is verified then: days may lie
// between.
func TestFileThatChangesAfterTheLoad(t *testing.T) {
	catalogue := models.New(t.TempDir())
	m, err := catalogue.Import(t.Context(), filepath.Join(testModels, "sd1"), models.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: catalogue, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Generate(t.Context(), inference.Request{Job: small("a")}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(m.Dir, "text_encoder", "model.onnx")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	skip := small("b")
	skip.ClipSkip = new(1)
	if _, err := e.Generate(t.Context(), inference.Request{Job: skip}); err == nil {
		t.Error("a changed text encoder was loaded")
	}
	if _, err := e.Generate(t.Context(), inference.Request{Job: small("c")}); err != nil {
		t.Errorf("what is in memory does not go on: %v", err)
	}
}
