package diffusion_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
)

// Nothing of a photo, a prompt or a picture stays in the tensors, however the
// task ends.
func TestNothingStaysInTheTensors(t *testing.T) {
	rt, err := onnx.Open(testservices.ONNXRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	const dir = "../../testdata/models/sd1"
	p, err := diffusion.Open(rt, diffusion.Files{FS: os.DirFS(dir), Dir: dir}, onnx.Options{Device: onnx.CPU})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	photo := make([]float32, 3*64*64)
	for i := range photo {
		photo[i] = float32(i%255)/128 - 1
	}
	task := diffusion.Task{
		Kind: job.ImageToImage, Prompt: "a small red circle", Width: 64, Height: 64, Steps: 4, Guidance: 7, Strength: 0.5,
		Seeds: []int64{1}, Photo: photo, Scheduler: "euler-a",
	}
	stop := errors.New("enough")
	for _, end := range []error{nil, stop} {
		ctx, cancel := context.WithCancelCause(t.Context())
		seen := 0
		err := p.Generate(ctx, task, func(now job.Progress) {
			if now.Step == 1 && end != nil {
				cancel(end)
			}
		}, func(int, []float32) error { seen = p.Residue(); return nil })
		cancel(nil)
		if !errors.Is(err, end) || end == nil && seen == 0 {
			t.Fatalf("got %v, with %d numbers meanwhile", err, seen)
		}
		if n := p.Residue(); n > 0 {
			t.Errorf("%d numbers stay after %v", n, end)
		}
	}
}
