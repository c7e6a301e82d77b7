package diffusion

import (
	"errors"
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
	// widths are the lengths of the conditions' last axes, by input.
	widths map[string]int64
	// perSample: every sample of a batch may have its own timestep.
	perSample bool
	// timestepDims is the shape of a timestep that is not per sample.
	timestepDims []int64

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
	u.session, err = loadUNet(func(edit editing) (*onnx.Session, error) { return rt.Load(source, o, edit) }, files.warn)
	if err != nil {
		return nil, fmt.Errorf("load unet: %w", err)
	}
	if err := u.findNames(); err != nil {
		return nil, fmt.Errorf("load unet: %w", closing(err, u.session))
	}
	return u, nil
}

// editing changes a graph before it is loaded, and says whether it did.
type editing = func(*onnxfile.Model) (bool, error)

// loadUNet loads the graph with a timestep per sample. An edit that ONNX Runtime
// does not take costs speed, not the model.
func loadUNet(load func(editing) (*onnx.Session, error), warn func(text string, err error)) (*onnx.Session, error) {
	session, err := load(vectorTimestep)
	if err == nil || errors.Is(err, onnx.ErrOutOfMemory) || errors.Is(err, onnx.ErrDeviceLost) {
		return session, err
	}
	unedited, again := load(scalarTimestep)
	if again != nil {
		return nil, err
	}
	warn("the unet does not load with a timestep per sample; it takes one for the batch", err)
	return unedited, nil
}

// vectorTimestep gives every sample its own timestep where the graph can be
// edited so; where not, samples are grouped by timestep.
func vectorTimestep(m *onnxfile.Model) (bool, error) {
	changed, err := m.VectorTimestep("timestep")
	if err == nil {
		return changed, nil
	}
	return scalarTimestep(m) // it works, only in smaller batches
}

// scalarTimestep leaves the timestep as it is, but for a scalar of half
// precision, which the binding does not have.
func scalarTimestep(m *onnxfile.Model) (bool, error) {
	for _, v := range m.Inputs {
		if v.Name == "timestep" && len(v.Dims) == 0 && v.Type == onnxfile.Float16 {
			_, err := m.ScalarAsVector("timestep")
			return err == nil, err
		}
	}
	return false, nil
}

func (u *unet) findNames() error {
	sample, ok := u.session.Input("sample")
	if !ok || len(sample.Dims) != 4 {
		return fmt.Errorf("it has no input sample of shape [batch, channels, height, width]")
	}
	timestep, ok := u.session.Input("timestep", "timestep/vector")
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
	u.perSample = len(timestep.Dims) == 1 && timestep.Dims[0] == onnxfile.Dynamic
	u.timestepDims = timestep.Dims
	if u.channels = fixed(sample.Dims[1], u.config.Channels); u.channels < latentChannels {
		return fmt.Errorf("the number of its channels is unknown: config.json has no in_channels")
	}
	u.widths = map[string]int64{u.hidden: fixed(hidden.Dims[2], int(u.config.CrossAttention))}
	for _, optional := range []struct {
		input string
		name  *string
		width int
	}{{"text_embeds", &u.pooled, 0}, {"time_ids", &u.timeIDs, 0}, {"timestep_cond", &u.guidance, u.config.Guidance}} {
		if v, ok := u.session.Input(optional.input); ok && len(v.Dims) == 2 {
			*optional.name = v.Name
			u.widths[v.Name] = fixed(v.Dims[1], optional.width)
		}
	}
	return nil
}

// fixed is the size of an axis, or what the configuration says where the graph
// leaves it dynamic.
func fixed(dim int64, configured int) int64 {
	if dim > 0 {
		return dim
	}
	return int64(configured)
}

// fit settles the widths that only the text encoder knows, and checks the
// others against it.
func (u *unet) fit(hidden, pooled int64) error {
	if want := u.widths[u.hidden]; want != 0 && want != hidden {
		return fmt.Errorf("the unet wants embeddings of width %d, the text encoder gives %d", want, hidden)
	}
	u.widths[u.hidden] = hidden
	if u.pooled != "" {
		if want := u.widths[u.pooled]; pooled == 0 || want != 0 && want != pooled {
			return fmt.Errorf("the unet wants a pooled prompt of width %d, the text encoder gives %d", want, pooled)
		}
		u.widths[u.pooled] = pooled
	}
	if u.timeIDs != "" && u.widths[u.timeIDs] == 0 && u.config.TimeEmbed > 0 {
		u.widths[u.timeIDs] = (int64(u.config.Projection) - pooled) / int64(u.config.TimeEmbed)
	}
	for name, width := range u.widths {
		if width <= 0 {
			return fmt.Errorf("the width of the unet's input %s is unknown: neither the graph nor config.json has it", name)
		}
	}
	return nil
}

// multiple is what the sides of the latents must be a multiple of: an exported
// UNet halves them once per block but the last, and joins the halves again.
func (u *unet) multiple() int {
	blocks := len(u.config.Blocks)
	if blocks == 0 { // exports without config.json are of the first models
		blocks = 4
		if u.timeIDs != "" {
			blocks = 3
		}
	}
	return 1 << (blocks - 1)
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
			return []int64{n, int64(shape.tokens), u.widths[v.Name]}, nil
		default:
			if width, ok := u.widths[v.Name]; ok {
				return []int64{n, width}, nil
			}
			return nil, fmt.Errorf("nothing is known of this input")
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
