package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/models/onnxfile"
)

// The batch that both graphs run on: two samples, the smallest latents that any
// UNet of the family takes, and timesteps of a prompt's usual length.
const (
	compareSamples = 2
	compareSide    = 8
	compareTokens  = 77
)

// compareSteps are the timesteps of the two samples: the graph with one for
// the batch is run for each.
var compareSteps = [compareSamples]float32{981, 21}

// sameNoise checks that a UNet edited to take a timestep per sample predicts
// what the unedited one does: row by row, with the same and with different
// timesteps in the batch.
func sameNoise(ctx context.Context, c configs.Config, batch, perSample string) (err error) {
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return err
	}
	device, err := onnx.ParseDevice(devices(c.Engine.Devices)[0])
	if err != nil {
		return err
	}
	runtime, err := onnx.Open(library)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	o := onnx.Options{Device: device, Threads: c.Engine.Threads, CUDA: c.Engine.CUDA}

	same := [compareSamples]float32{compareSteps[0], compareSteps[0]}
	other := [compareSamples]float32{compareSteps[1], compareSteps[1]}
	want, err := predict(ctx, runtime, batch, o, same, other)
	if err != nil {
		return fmt.Errorf("run with one timestep: %w", err)
	}
	got, err := predict(ctx, runtime, perSample, o, same, compareSteps)
	if err != nil {
		return fmt.Errorf("run with a timestep per sample: %w", err)
	}
	row := len(want[0]) / compareSamples
	expected := append(append([]float32{}, want[0][:row]...), want[1][row:]...)
	if err := close32(got[0], want[0]); err != nil {
		return fmt.Errorf("the same timesteps: %w", err)
	}
	if err := close32(got[1], expected); err != nil {
		return fmt.Errorf("different timesteps: %w", err)
	}
	return nil
}

// predict runs the UNet of a file on noise that is always the same, once for
// each timesteps of the batch.
func predict(ctx context.Context, runtime *onnx.Runtime, file string, o onnx.Options, steps ...[compareSamples]float32) (_ [][]float32, err error) {
	timestep := "timestep"
	session, err := runtime.Load(onnx.Source{Path: file}, o, func(m *onnxfile.Model) (bool, error) {
		for _, v := range m.Inputs {
			// The binding has no scalars of half precision.
			if v.Name == timestep && len(v.Dims) == 0 && v.Type == onnxfile.Float16 {
				timestep, err = m.ScalarAsVector(timestep)
				return true, err
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	outputs := session.Outputs()
	if len(outputs) == 0 {
		return nil, errors.New("the unet has no output")
	}
	binding, err := session.Bind(func(v onnxfile.Value) ([]int64, error) { return compareShape(v, timestep) })
	if err != nil {
		return nil, err
	}
	defer binding.Close()
	stop, err := onnx.NewStop(ctx)
	if err != nil {
		return nil, err
	}
	defer stop.Close()

	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a pattern, no secret
	for _, v := range session.Inputs() {
		if v.Name == timestep {
			continue
		}
		values := binding.Tensor(v.Name).Floats()
		for i := range values {
			values[i] = float32(random.NormFloat64())
		}
	}
	var out [][]float32
	for _, batch := range steps {
		t := binding.Tensor(timestep)
		count := 1
		if len(t.Shape()) == 1 {
			count = int(t.Shape()[0])
		}
		for i := range count {
			t.SetNumber(i, batch[i])
		}
		if err := binding.Run(stop); err != nil {
			return nil, err
		}
		out = append(out, append([]float32{}, binding.Tensor(outputs[0].Name).Floats()...))
	}
	return out, nil
}

// compareShape gives an input or output of the UNet a shape for the batch.
func compareShape(v onnxfile.Value, timestep string) ([]int64, error) {
	shape := append([]int64{}, v.Dims...)
	switch {
	case v.Name == timestep:
		if len(shape) == 1 && shape[0] == onnxfile.Dynamic {
			shape[0] = compareSamples
		}
		return shape, nil
	case len(shape) == 4: // latents
		if shape[1] == onnxfile.Dynamic {
			shape[1] = 4
		}
		return []int64{compareSamples, shape[1], fixed(shape[2], compareSide), fixed(shape[3], compareSide)}, nil
	case len(shape) == 3 && shape[2] > 0: // text
		return []int64{compareSamples, fixed(shape[1], compareTokens), shape[2]}, nil
	case len(shape) == 2 && shape[1] > 0: // pooled text, sizes, guidance
		return []int64{compareSamples, shape[1]}, nil
	}
	return nil, fmt.Errorf("its shape %v is unknown", v.Dims)
}

func fixed(size, dynamic int64) int64 {
	if size == onnxfile.Dynamic {
		return dynamic
	}
	return size
}

// close32 compares within what a graph optimised otherwise may differ by.
func close32(got, want []float32) error {
	const tolerance = 0.01 // of the largest value: half precision has 11 bits
	if len(got) != len(want) {
		return fmt.Errorf("%d values came instead of %d", len(got), len(want))
	}
	largest, worst := 0.0, 0.0
	for i := range want {
		largest = max(largest, math.Abs(float64(want[i])))
		worst = max(worst, math.Abs(float64(got[i])-float64(want[i])))
	}
	if !(worst <= tolerance*largest) { // NaN too
		return fmt.Errorf("the noise differs by %.3g where the largest value is %.3g", worst, largest)
	}
	return nil
}
