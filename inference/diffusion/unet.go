package diffusion

import (
	"fmt"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/models/onnxfile"
)

// unet predicts the noise in a batch of samples.
type unet struct {
	session *onnx.Session
	config  unetConfig

	// Names of the inputs; empty where the model has no such input.
	sample, timestep, hidden, pooled, timeIDs, guidance string
	output                                              string

	// channels of the sample input; more than latent ones are inpainting's or
	// instruct-pix2pix's own.
	channels int64
	// perSample: every sample of a batch may have its own timestep.
	perSample bool
	// timestepDims is the shape of a timestep that is not per sample.
	timestepDims []int64
	// guidanceWidth is the width of the guidance embedding.
	guidanceWidth int64

	binding *onnx.Binding
	bound   unetShape
}

// unetShape is what the shapes of a batch's tensors depend on.
type unetShape struct {
	samples, height, width, tokens int
}

func openUNet(rt *onnx.Runtime, files Files, o onnx.Options) (*unet, error) {
	source, err := files.source("unet")
	if err != nil {
		return nil, err
	}
	u := &unet{}
	if err := files.config("unet/config.json", &u.config); err != nil {
		return nil, err
	}
	if u.session, err = rt.Load(source, o, vectorTimestep); err != nil {
		return nil, fmt.Errorf("load unet: %w", err)
	}
	if err := u.findNames(); err != nil {
		return nil, fmt.Errorf("load unet: %w", closing(err, u.session))
	}
	return u, nil
}

// vectorTimestep gives every sample its own timestep where the graph can be
// edited so; where not, samples are grouped by timestep.
func vectorTimestep(m *onnxfile.Model) (bool, error) {
	changed, err := m.VectorTimestep("timestep")
	if err != nil {
		return false, nil //nolint:nilerr // the unedited graph works, only in smaller batches
	}
	return changed, nil
}

func (u *unet) findNames() error {
	sample, ok := u.session.Input("sample")
	if !ok || len(sample.Dims) != 4 || sample.Dims[1] < 4 {
		return fmt.Errorf("it has no input sample of shape [batch, channels, height, width]")
	}
	timestep, ok := u.session.Input("timestep")
	if !ok || len(timestep.Dims) > 1 {
		return fmt.Errorf("it has no input timestep")
	}
	hidden, ok := u.session.Input("encoder_hidden_states")
	if !ok || len(hidden.Dims) != 3 {
		return fmt.Errorf("it has no input encoder_hidden_states of shape [batch, tokens, width]")
	}
	output, ok := u.session.Output("out_sample", "latent", "noise_pred", "sample")
	if !ok {
		return fmt.Errorf("it has no output for the predicted noise")
	}
	u.sample, u.timestep, u.hidden, u.output = sample.Name, timestep.Name, hidden.Name, output.Name
	u.channels = sample.Dims[1]
	u.perSample = len(timestep.Dims) == 1 && timestep.Dims[0] == onnxfile.Dynamic
	u.timestepDims = timestep.Dims
	if v, ok := u.session.Input("text_embeds"); ok {
		u.pooled = v.Name
	}
	if v, ok := u.session.Input("time_ids"); ok {
		u.timeIDs = v.Name
	}
	if v, ok := u.session.Input("timestep_cond"); ok {
		if len(v.Dims) != 2 || v.Dims[1] <= 0 {
			return fmt.Errorf("the width of its guidance embedding is unknown")
		}
		u.guidance, u.guidanceWidth = v.Name, v.Dims[1]
	}
	return nil
}

// multiple is what the sides of the latents must be a multiple of: an exported
// UNet halves them once per block but the last, and joins the halves again.
func (u *unet) multiple() int {
	return 1 << max(len(u.config.Blocks)-1, 0)
}

// bind makes the tensors for a batch. They stay until the shape changes.
func (u *unet) bind(shape unetShape) (*onnx.Binding, error) {
	if u.binding != nil && u.bound == shape {
		return u.binding, nil
	}
	u.unbind()
	n, h, w := int64(shape.samples), int64(shape.height), int64(shape.width)
	binding, err := u.session.Bind(func(v onnxfile.Value) ([]int64, error) {
		switch v.Name {
		case u.sample:
			return []int64{n, u.channels, h, w}, nil
		case u.output:
			return []int64{n, latentChannels, h, w}, nil
		case u.timestep:
			if u.perSample {
				return []int64{n}, nil
			}
			return u.timestepDims, nil
		case u.hidden:
			return []int64{n, int64(shape.tokens), v.Dims[2]}, nil
		default: // pooled, time ids, guidance embedding
			if len(v.Dims) == 2 && v.Dims[1] > 0 {
				return []int64{n, v.Dims[1]}, nil
			}
			return nil, fmt.Errorf("its shape %v is unknown", v.Dims)
		}
	})
	if err != nil {
		return nil, err
	}
	u.binding, u.bound = binding, shape
	return binding, nil
}

func (u *unet) unbind() {
	if u.binding != nil {
		u.binding.Close()
		u.binding = nil
	}
}

func (u *unet) close() error {
	u.unbind()
	return u.session.Close()
}
