package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/models"
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

// noise is what the child that compares two graphs answers.
type noise struct {
	// Same: both predict the same noise.
	Same bool `json:"same"`
	// Unloadable: the edited graph cannot be loaded, so that models are run with
	// the other.
	Unloadable bool   `json:"unloadable,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

// sameNoise checks, in a process of its own, that a UNet edited to take a
// timestep per sample predicts what the unedited one does.
func (a *app) sameNoise(ctx context.Context, c configs.Config, batch, perSample string) error {
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return err
	}
	device := a.isolatedDevices(ctx, c.Engine.Devices, library, slog.New(slog.DiscardHandler))[0]
	output, err := remote.Once(ctx, remote.Options{
		Devices: []string{device}, Args: []string{"engine", "--same-noise", batch, perSample}, Environ: a.environ,
		Config:       engineConfig{Library: library, Threads: c.Engine.Threads, CUDA: c.Engine.CUDA},
		StartTimeout: c.Engine.StartTimeout + 2*c.Engine.LoadTimeout + c.Engine.StallTimeout,
	})
	if err != nil {
		return err
	}
	var n noise
	switch err := json.Unmarshal(output, &n); {
	case err != nil:
		return fmt.Errorf("read what the engine process says: %w", err)
	case n.Unloadable:
		return fmt.Errorf("%w: %s", models.ErrUneditable, n.Reason)
	case !n.Same:
		return errors.New(n.Reason)
	}
	return nil
}

// compareProcess is the child's side of sameNoise.
func (a *app) compareProcess(ctx context.Context, device onnx.Device, batch, perSample string) (err error) {
	var config engineConfig
	if err := json.NewDecoder(a.stdin).Decode(&config); err != nil {
		return fmt.Errorf("read engine's configuration: %w", err)
	}
	runtime, err := onnx.Open(config.Library)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	o := onnx.Options{Device: visible(device), Threads: config.Threads, CUDA: config.CUDA}
	if err := onnx.CheckDevice(o); err != nil {
		return err
	}
	if err := remote.Confine(slog.New(slog.NewJSONHandler(a.stderr, nil))); err != nil {
		return err
	}
	n := noise{Same: true}
	if err := compare(ctx, runtime, o, batch, perSample); err != nil {
		n = noise{Unloadable: errors.Is(err, errUnloadable), Reason: err.Error()}
	}
	a.json = true
	return a.print(n)
}

// errUnloadable: the graph with a timestep per sample cannot be loaded.
var errUnloadable = errors.New("the graph with a timestep per sample cannot be loaded")

// compare runs both graphs, row by row, with the same and with different
// timesteps in the batch.
func compare(ctx context.Context, runtime *onnx.Runtime, o onnx.Options, batch, perSample string) error {
	same := [compareSamples]float32{compareSteps[0], compareSteps[0]}
	other := [compareSamples]float32{compareSteps[1], compareSteps[1]}
	want, err := predict(ctx, runtime, batch, o, same, other)
	if err != nil {
		return fmt.Errorf("run with one timestep: %w", err)
	}
	got, err := predict(ctx, runtime, perSample, o, same, compareSteps)
	if errors.Is(err, errLoad) {
		return fmt.Errorf("%w: %w", errUnloadable, err)
	}
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

var errLoad = errors.New("load graph")

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
		return nil, fmt.Errorf("%w: %w", errLoad, err)
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	widths := readWidths(filepath.Dir(filepath.Dir(file)))
	outputs := session.Outputs()
	if len(outputs) == 0 {
		return nil, errors.New("the unet has no output")
	}
	binding, err := session.Bind(func(v onnxfile.Value) ([]int64, error) { return compareShape(v, timestep, widths) })
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

// widths are the sizes of axes that some exports leave dynamic, by the name of
// the input; 0 is unknown.
type widths map[string]int64

// readWidths reads the configurations of a model's components. A file that is
// not there, or says something else, leaves its widths unknown.
func readWidths(dir string) widths {
	var unet struct {
		Channels   int64           `json:"in_channels"`
		Attention  json.RawMessage `json:"cross_attention_dim"` // a number, or one for each block
		TimeEmbed  int64           `json:"addition_time_embed_dim"`
		Projection int64           `json:"projection_class_embeddings_input_dim"`
		Guidance   int64           `json:"time_cond_proj_dim"`
	}
	var text struct {
		Projection int64 `json:"projection_dim"`
	}
	for file, into := range map[string]any{"unet": &unet, "text_encoder_2": &text} {
		if data, err := os.ReadFile(filepath.Join(dir, file, "config.json")); err == nil {
			_ = json.Unmarshal(data, into) // see above
		}
	}
	w := widths{"sample": unet.Channels, "text_embeds": text.Projection, "timestep_cond": unet.Guidance}
	var blocks []int64
	var width int64
	if json.Unmarshal(unet.Attention, &width) == nil {
		w["encoder_hidden_states"] = width
	} else if json.Unmarshal(unet.Attention, &blocks) == nil && len(blocks) > 0 {
		w["encoder_hidden_states"] = blocks[0]
	}
	if unet.TimeEmbed > 0 && text.Projection > 0 {
		w["time_ids"] = (unet.Projection - text.Projection) / unet.TimeEmbed
	}
	return w
}

// compareShape gives an input or output of the UNet a shape for the batch.
func compareShape(v onnxfile.Value, timestep string, w widths) ([]int64, error) {
	shape := append([]int64{}, v.Dims...)
	width := func(axis int) int64 { return fixed(shape[axis], w[v.Name]) }
	switch {
	case v.Name == timestep:
		if len(shape) == 1 && shape[0] == onnxfile.Dynamic {
			shape[0] = compareSamples
		}
		return shape, nil
	case len(shape) == 4: // latents; all models predict four channels
		channels := width(1)
		if channels == 0 {
			channels = 4
		}
		return []int64{compareSamples, channels, fixed(shape[2], compareSide), fixed(shape[3], compareSide)}, nil
	case len(shape) == 3 && width(2) > 0: // text
		return []int64{compareSamples, fixed(shape[1], compareTokens), width(2)}, nil
	case len(shape) == 2 && width(1) > 0: // pooled text, sizes, guidance
		return []int64{compareSamples, width(1)}, nil
	}
	return nil, fmt.Errorf("its shape %v is unknown, and config.json does not tell", v.Dims)
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
