package diffusion_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/internal/onnxtest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/models/onnxfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newStepper takes steps of a 512 x 512 image with guidance, a batch of two, on
// a UNet that costs nothing: what is left is the worker's own code.
func newStepper(t testing.TB, element onnxfile.ElementType, schedulerName string) *diffusion.Stepper {
	t.Helper()
	rt, err := onnx.Open(testservices.ONNXRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("../../testdata/models/sd1/scheduler/scheduler_config.json")
	if err != nil {
		t.Fatal(err)
	}
	config, err := scheduler.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	latents := []int64{onnxfile.Dynamic, 4, onnxfile.Dynamic, onnxfile.Dynamic}
	model := onnxtest.Passthrough([]onnxfile.Value{
		{Name: "sample", Type: element, Dims: latents}, {Name: "timestep", Type: element, Dims: []int64{onnxfile.Dynamic}},
		{Name: "encoder_hidden_states", Type: element, Dims: []int64{onnxfile.Dynamic, onnxfile.Dynamic, 768}},
	}, "sample", onnxfile.Value{Name: "out_sample", Type: element, Dims: latents})
	s, err := diffusion.NewStepper(rt, model, 64, 77, 768, schedulerName, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	step(t, s) // makes the tensors and writes the conditions
	step(t, s)
	return s
}

func step(t testing.TB, s *diffusion.Stepper) {
	more, err := s.Step()
	if err != nil || !more {
		t.Fatal("no step is left", err)
	}
}

// TestStepAllocatesNothing: what a step allocates is the binding's own, six
// small objects in a run.
func TestStepAllocatesNothing(t *testing.T) {
	for _, name := range []string{"euler", "euler-a", "dpmpp-2m", "pndm"} {
		t.Run(name, func(t *testing.T) {
			s := newStepper(t, onnxfile.Float16, name)
			if n := testing.AllocsPerRun(20, func() { step(t, s) }); n > 6 {
				t.Errorf("%v allocations in a step", n)
			}
		})
	}
}

// BenchmarkStep is a denoising step at 512 x 512 and a batch of two without the
// model: scaling, feeding, conversion, guidance, the scheduler's step.
func BenchmarkStep(b *testing.B) {
	for _, element := range []onnxfile.ElementType{onnxfile.Float32, onnxfile.Float16} {
		for _, name := range []string{"euler", "euler-a", "dpmpp-2m"} {
			b.Run(fmt.Sprintf("%s/%s", element, name), func(b *testing.B) {
				s := newStepper(b, element, name)
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					if i > 0 && i%250 == 0 {
						b.StopTimer()
						s.Rewind()
						b.StartTimer()
					}
					step(b, s)
				}
			})
		}
	}
}
