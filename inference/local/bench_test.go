package local_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/demo"
	"github.com/imgus/worker/models/onnxfile"
)

// The jobs that bench/ compares with other programs.
var benchJobs = map[string]*job.Job{
	"sd1": {
		Version: 1, ID: "bench", Kind: job.TextToImage, Model: "sd1", Prompt: new("a small red circle on a blue background"),
		Steps: new(20), GuidanceScale: new(7.5), Width: new(64), Height: new(64), Seed: new(int64(42)),
	},
	"demo": {Version: 1, ID: "bench", Kind: job.TextToImage, Model: demo.Name, Prompt: new(demo.Prompt), Seed: new(int64(42))},
}

// BenchmarkJob is a whole job on a loaded model, as the engine does it.
func BenchmarkJob(b *testing.B) {
	m, err := models.OpenFS(demo.Files())
	if err != nil {
		b.Fatal(err)
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(b), Devices: []string{"cpu"}, Catalogue: models.New(testModels, m), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	for _, name := range []string{"sd1", "demo"} {
		b.Run(name, func(b *testing.B) {
			r := inference.Request{Job: benchJobs[name]}
			if _, err := e.Generate(context.Background(), r); err != nil { // loads the model
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := e.Generate(context.Background(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBareCalls makes only the calls of ONNX Runtime that a job consists
// of: two prompts, the UNet once for each step, one picture to decode.
func BenchmarkBareCalls(b *testing.B) {
	rt, err := onnx.Open(testservices.ONNXRuntime(b))
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close()
	for _, bench := range []struct {
		name        string
		files       fs.FS
		calls, side int64
	}{{"sd1", os.DirFS(testModels + "/sd1"), 21, 8}, {"demo", demo.Files(), 20, 16}} {
		b.Run(bench.name, func(b *testing.B) {
			text := bareBinding(b, rt, bench.files, "text_encoder", bench.side, 1)
			unet := bareBinding(b, rt, bench.files, "unet", bench.side, 2)
			decoder := bareBinding(b, rt, bench.files, "vae_decoder", bench.side, 1)
			stop, err := onnx.NewStop(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			defer stop.Close()
			run := func(c *onnx.Binding, n int64) {
				for range n {
					if err := c.Run(stop); err != nil {
						b.Fatal(err)
					}
				}
			}
			for b.Loop() {
				run(text, 2)
				run(unet, bench.calls)
				run(decoder, 1)
			}
		})
	}
}

func bareBinding(b *testing.B, rt *onnx.Runtime, files fs.FS, component string, side, batch int64) *onnx.Binding {
	b.Helper()
	data, err := fs.ReadFile(files, component+"/model.onnx")
	if err != nil {
		b.Fatal(err)
	}
	session, err := rt.Load(onnx.Source{Data: data}, onnx.Options{Device: onnx.CPU}, func(m *onnxfile.Model) (bool, error) {
		if component == "unet" {
			return m.VectorTimestep("timestep")
		}
		return false, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = session.Close() })
	binding, err := session.Bind(func(v onnxfile.Value) ([]int64, error) {
		switch v.Name {
		case "input_ids":
			return []int64{batch, 77}, nil
		case "timestep":
			return []int64{batch}, nil
		case "last_hidden_state", "encoder_hidden_states":
			return []int64{batch, 77, v.Dims[2]}, nil
		case "pooler_output":
			return []int64{batch, v.Dims[1]}, nil
		case "latent_sample":
			return []int64{batch, 4, side, side}, nil
		case "sample", "out_sample":
			if v.Dims[1] == 3 {
				return []int64{batch, 3, 8 * side, 8 * side}, nil
			}
			return []int64{batch, 4, side, side}, nil
		}
		return nil, fmt.Errorf("no shape for %s", v.Name)
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(binding.Close)
	return binding
}
