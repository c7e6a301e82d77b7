package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/imgus/worker/models/onnxfile"
)

// facts are what a model's files tell about its family and sizes. The graph of
// the UNet is asked only for what its configuration does not say: many exports
// have none.
type facts struct {
	fsys  fs.FS
	Index struct {
		Class      string `json:"_class_name"`
		Aesthetics bool   `json:"requires_aesthetics_score"`
	}
	UNet unetFacts
	VAE  struct {
		Blocks []int `json:"block_out_channels"`
	}
	Scheduler struct {
		Class      string `json:"_class_name"`
		Prediction string `json:"prediction_type"`
		ZeroSNR    bool   `json:"rescale_betas_zero_snr"`
		Spacing    string `json:"timestep_spacing"`
	}
	// onlySecond: there is a second text encoder and no first.
	onlySecond bool
	// transformer: the noise is predicted by a transformer, not a UNet.
	transformer bool

	summary *onnxfile.Summary
}

type unetFacts struct {
	Channels       int             `json:"in_channels"`
	CrossAttention json.RawMessage `json:"cross_attention_dim"`
	GuidanceWidth  *int            `json:"time_cond_proj_dim"`
	SampleSize     json.RawMessage `json:"sample_size"`

	// there: the file exists.
	there bool
}

// textWidth is the width of the text's embeddings; 0 if it is not said. A list
// has one for each block.
func (u unetFacts) textWidth() int {
	var width int
	var widths []int
	if json.Unmarshal(u.CrossAttention, &width) != nil && json.Unmarshal(u.CrossAttention, &widths) == nil && len(widths) > 0 {
		return widths[0]
	}
	return width
}

func readFacts(fsys fs.FS) (*facts, error) {
	f := &facts{fsys: fsys}
	for _, source := range []struct {
		name  string
		into  any
		found *bool
	}{
		{"model_index.json", &f.Index, nil}, {"unet/config.json", &f.UNet, &f.UNet.there}, {"vae_decoder/config.json", &f.VAE, nil},
		{"scheduler/scheduler_config.json", &f.Scheduler, nil},
	} {
		data, err := readBounded(fsys, source.name, maxJSON)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(data, source.into)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", source.name, err)
		}
		if source.found != nil {
			*source.found = true
		}
	}
	has := func(name string) bool {
		_, err := fs.Stat(fsys, name)
		return err == nil
	}
	f.onlySecond = has("text_encoder_2/model.onnx") && !has("text_encoder/model.onnx")
	f.transformer = has("transformer/model.onnx")
	if !has("model_index.json") && !has("unet/model.onnx") {
		return nil, errors.New("there is neither a model_index.json nor a unet/model.onnx: it is no model in the layout of optimum")
	}
	return f, nil
}

// graph is what the UNet's graph says of itself.
func (f *facts) graph() (onnxfile.Summary, error) {
	if f.summary != nil {
		return *f.summary, nil
	}
	const name = "unet/model.onnx"
	err := withGraph(f.fsys, name, func(r io.ReaderAt, size int64) error {
		s, err := onnxfile.Inspect(r, size)
		f.summary = &s
		return err
	})
	if err != nil {
		f.summary = nil
		return onnxfile.Summary{}, fmt.Errorf("read %s: %w", name, err)
	}
	return *f.summary, nil
}

// channels is how many channels the UNet takes; 0 if nothing tells.
func (f *facts) channels() (int, error) {
	if f.UNet.Channels != 0 {
		return f.UNet.Channels, nil
	}
	graph, err := f.graph()
	if err != nil {
		return 0, err
	}
	sample, ok := graph.Input("sample")
	if !ok || len(sample.Dims) != 4 {
		return 0, errors.New("its unet has no input sample of shape [batch, channels, height, width]")
	}
	if sample.Dims[1] == onnxfile.Dynamic {
		return 0, nil
	}
	return int(sample.Dims[1]), nil
}

// textWidth is the width of the text embeddings that the UNet takes.
func (f *facts) textWidth() (int, error) {
	if width := f.UNet.textWidth(); width != 0 {
		return width, nil
	}
	graph, err := f.graph()
	if err != nil {
		return 0, err
	}
	hidden, ok := graph.Input("encoder_hidden_states")
	if !ok || len(hidden.Dims) != 3 {
		return 0, errors.New("its unet has no input encoder_hidden_states of shape [batch, tokens, width]")
	}
	return int(hidden.Dims[2]), nil
}

// knownTextWidth is textWidth, or 0 where nothing tells it.
func (f *facts) knownTextWidth() int {
	width, err := f.textWidth()
	if err != nil {
		return 0
	}
	return width
}

// guided reports whether the guidance scale is an input of the UNet, as in
// models distilled with it.
func (f *facts) guided() (bool, error) {
	if f.UNet.there {
		return f.UNet.GuidanceWidth != nil, nil
	}
	graph, err := f.graph()
	_, ok := graph.Input("timestep_cond")
	return ok, err
}

// nativeSize is the width and height that the model was trained on, in pixels.
func (f *facts) nativeSize(base Family) (width, height int) {
	factor := 8
	if n := len(f.VAE.Blocks); n > 0 {
		factor = 1 << min(n-1, 6)
	}
	var side int
	var sides [2]int // height and width
	if json.Unmarshal(f.UNet.SampleSize, &side) == nil {
		sides = [2]int{side, side}
	} else {
		_ = json.Unmarshal(f.UNet.SampleSize, &sides) // zeros if it says something else
	}
	const most = 2048
	if sides[0] > 0 && sides[1] > 0 && sides[0] <= most && sides[1] <= most {
		return sides[1] * factor, sides[0] * factor
	}
	switch {
	case base == SDXL || base == SDXLRefiner:
		return 1024, 1024
	case base == SD2 && f.Scheduler.Prediction == "v_prediction":
		return 768, 768
	}
	return 512, 512
}
