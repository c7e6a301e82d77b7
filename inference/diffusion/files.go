package diffusion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"

	"github.com/imgus/worker/inference/onnx"
)

// Files are a model's files in the layout of optimum: a folder per component,
// model_index.json at the top.
type Files struct {
	FS fs.FS
	// Dir is where FS stands on disk; empty when it does not, and models are
	// then loaded from memory.
	Dir string
	// Verify, if not nil, is asked before a component is loaded later than the
	// model: its files may have changed since.
	Verify func(ctx context.Context) error
	// Log, if not nil, hears what an operator should know of the files.
	Log *slog.Logger
}

func (f Files) warn(text string, err error) {
	if f.Log != nil {
		f.Log.Warn(text, "error", err)
	}
}

func (f Files) verify(ctx context.Context) error {
	if f.Verify == nil {
		return nil
	}
	return f.Verify(ctx)
}

// source is where the ONNX file of a component is.
func (f Files) source(component string) (onnx.Source, error) {
	name := path.Join(component, "model.onnx")
	if f.Dir != "" {
		return onnx.Source{Path: filepath.Join(f.Dir, filepath.FromSlash(name))}, nil
	}
	data, err := fs.ReadFile(f.FS, name)
	if err != nil {
		return onnx.Source{}, fmt.Errorf("read %s: %w", name, err)
	}
	return onnx.Source{Data: data}, nil
}

func (f Files) has(component string) bool {
	_, err := fs.Stat(f.FS, path.Join(component, "model.onnx"))
	return err == nil
}

// config reads a JSON file into v, whose fields keep their values where the
// file has none. A file that is not there is no error: old exports lack them.
func (f Files) config(name string, v any) error {
	data, err := fs.ReadFile(f.FS, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// indexConfig is what model_index.json says beyond its components.
type indexConfig struct {
	Class string `json:"_class_name"`
	// ForceZeros is true for SDXL where the file is silent, as in diffusers.
	ForceZeros *bool `json:"force_zeros_for_empty_prompt"`
}

func (c indexConfig) forceZeros() bool { return c.ForceZeros == nil || *c.ForceZeros }

// unetConfig is the part of unet/config.json that the graph does not tell.
type unetConfig struct {
	SampleSize sampleSize `json:"sample_size"`
	Blocks     []int      `json:"block_out_channels"`
	// For exports that leave even these axes dynamic.
	Channels       int   `json:"in_channels"`
	CrossAttention width `json:"cross_attention_dim"`
	TimeEmbed      int   `json:"addition_time_embed_dim"`
	Projection     int   `json:"projection_class_embeddings_input_dim"`
	Guidance       int   `json:"time_cond_proj_dim"`
}

// width is a number; configurations also have a list of one per block, which is
// then not needed.
type width int

func (w *width) UnmarshalJSON(data []byte) error {
	var n int
	if err := json.Unmarshal(data, &n); err == nil {
		*w = width(n)
	}
	return nil
}

// sampleSize is a number, or height and width.
type sampleSize [2]int

func (s *sampleSize) UnmarshalJSON(data []byte) error {
	var side int
	if err := json.Unmarshal(data, &side); err == nil {
		*s = sampleSize{side, side}
		return nil
	}
	return json.Unmarshal(data, (*[2]int)(s))
}

// vaeConfig is the part of vae_decoder/config.json that the graph does not
// tell.
type vaeConfig struct {
	ScalingFactor *float64  `json:"scaling_factor"`
	ShiftFactor   *float64  `json:"shift_factor"`
	Blocks        []int     `json:"block_out_channels"`
	LatentsMean   []float64 `json:"latents_mean"`
	LatentsStd    []float64 `json:"latents_std"`
}

// textConfig is the part of a text encoder's config.json that the graph may
// leave open.
type textConfig struct {
	Hidden     int `json:"hidden_size"`
	Projection int `json:"projection_dim"`
}
