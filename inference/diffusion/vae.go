package diffusion

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/models/onnxfile"
)

// latentChannels is the number of channels of this family's latents.
const latentChannels = 4

// vae turns pixels into latents and back.
type vae struct {
	encoder, decoder *codec // encoder is nil where the export has none
	config           vaeConfig
	scale, shift     float32

	// wide is the decoder in full precision, for a half one that overflows;
	// loaded when needed, by openWide, which is nil where the model has none.
	wide     *codec
	openWide func(ctx context.Context) (*codec, error)
}

// wideDecoder is where a model may offer its decoder in full precision.
const wideDecoder = "vae_decoder_fp32"

// codec is one half of the VAE with tensors for the last size.
type codec struct {
	session       *onnx.Session
	input, output onnxfile.Value
	binding       *onnx.Binding
	width, height int
}

func openVAE(rt *onnx.Runtime, files Files, o onnx.Options, defaultScale float64) (*vae, error) {
	v := &vae{}
	if err := files.config("vae_decoder/config.json", &v.config); err != nil {
		return nil, err
	}
	v.scale = float32(defaultScale)
	if v.config.ScalingFactor != nil {
		v.scale = float32(*v.config.ScalingFactor)
	}
	if v.config.ShiftFactor != nil {
		v.shift = float32(*v.config.ShiftFactor)
	}
	if n := len(v.config.LatentsMean); n != len(v.config.LatentsStd) || n != 0 && n != latentChannels {
		return nil, fmt.Errorf("load vae_decoder: its latents_mean and latents_std do not have %d values each", latentChannels)
	}
	var err error
	if v.decoder, err = openCodec(rt, files, o, "vae_decoder"); err != nil {
		return nil, err
	}
	if files.has(wideDecoder) {
		v.openWide = func(ctx context.Context) (*codec, error) {
			if err := files.verify(ctx); err != nil {
				return nil, err
			}
			return openCodec(rt, files, o, wideDecoder)
		}
	}
	if files.has("vae_encoder") {
		if v.encoder, err = openCodec(rt, files, o, "vae_encoder"); err != nil {
			return nil, closing(err, v.decoder.session)
		}
	}
	return v, nil
}

func openCodec(rt *onnx.Runtime, files Files, o onnx.Options, component string) (*codec, error) {
	source, err := files.source(component)
	if err != nil {
		return nil, err
	}
	session, err := rt.Load(source, o, nil)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", component, err)
	}
	in, out := session.Inputs(), session.Outputs()
	if len(in) != 1 || len(out) != 1 || len(in[0].Dims) != 4 || len(out[0].Dims) != 4 {
		return nil, fmt.Errorf("load %s: %w", component, closing(errors.New("it does not have one input and one output of four axes"), session))
	}
	return &codec{session: session, input: in[0], output: out[0]}, nil
}

// factor is how many pixels a side of a latent stands for.
func (v *vae) factor() int {
	if len(v.config.Blocks) == 0 {
		return 8
	}
	return 1 << (len(v.config.Blocks) - 1)
}

// run runs the codec from a batch of one with the given shapes.
func (c *codec) run(stop *onnx.Stop, from []float32, in, out []int64) ([]float32, error) {
	if c.binding == nil || c.height != int(in[2]) || c.width != int(in[3]) {
		c.unbind()
		binding, err := c.session.Bind(func(v onnxfile.Value) ([]int64, error) {
			if v.Name == c.input.Name {
				return in, nil
			}
			return out, nil
		})
		if err != nil {
			return nil, err
		}
		c.binding, c.height, c.width = binding, int(in[2]), int(in[3])
	}
	copy(c.binding.Tensor(c.input.Name).Floats(), from)
	if err := c.binding.Run(stop); err != nil {
		return nil, err
	}
	return c.binding.Tensor(c.output.Name).Floats(), nil
}

func (c *codec) unbind() {
	if c.binding != nil {
		c.binding.Close()
		c.binding = nil
	}
}

func (c *codec) close() error {
	c.unbind()
	return c.session.Close()
}

// channels is the number of the encoder's output channels: twice the latents'
// for a distribution.
func (c *codec) channels() int64 {
	if n := c.output.Dims[1]; n > 0 {
		return n
	}
	if c.output.Name == "latent_parameters" {
		return 2 * latentChannels
	}
	return latentChannels
}

// posterior is the distribution of latents that the encoder gives for an image.
type posterior struct {
	mean []float32
	// std is nil where the export gives a latent instead of a distribution.
	std []float32
}

// encode encodes pixels, 3 x height x width in [-1, 1], into latents of height
// h and width w, in tiles of that share of the sides unless it is zero.
func (v *vae) encode(stop *onnx.Stop, pixels []float32, h, w int, tile float64) (posterior, error) {
	channels := v.encoder.channels()
	out, err := v.encoder.runPlanes(stop, pixels, h, w, tile, plane{3, v.factor()}, plane{int(channels), 1})
	if err != nil {
		return posterior{}, fmt.Errorf("encode photo: %w", err)
	}
	defer clear(out)
	n := latentChannels * h * w
	if channels == latentChannels {
		return posterior{mean: clone(out)}, nil
	}
	p := posterior{mean: clone(out[:n]), std: make([]float32, n)}
	for i, logVariance := range out[n : 2*n] {
		p.std[i] = float32(math.Exp(0.5 * float64(min(max(logVariance, -30), 20))))
	}
	return p, nil
}

func (p posterior) wipe() {
	clear(p.mean)
	clear(p.std)
}

// sample draws latents from the posterior and scales them for the UNet.
func (v *vae) sample(p posterior, noise scheduler.Noise) []float32 {
	x := make([]float32, len(p.mean))
	if p.std != nil {
		noise.Normal(x)
	}
	for i := range x {
		z := p.mean[i]
		if p.std != nil {
			z += float32(p.std[i] * x[i])
		}
		x[i] = v.toLatent(z, i*latentChannels/len(x))
	}
	return x
}

// toLatent and fromLatent convert between what the VAE gives and what the UNet
// was trained on; c is the channel.
func (v *vae) toLatent(z float32, c int) float32 {
	if len(v.config.LatentsMean) > 0 {
		return (z - float32(v.config.LatentsMean[c])) * v.scale / float32(v.config.LatentsStd[c])
	}
	return (z - v.shift) * v.scale
}

func (v *vae) fromLatent(x float32, c int) float32 {
	if len(v.config.LatentsMean) > 0 {
		return float32(x*float32(v.config.LatentsStd[c])/v.scale) + float32(v.config.LatentsMean[c])
	}
	return x/v.scale + v.shift
}

// decode decodes latents into pixels, 3 x height x width about [-1, 1], in tiles
// of that share of the sides unless it is zero. The pixels are valid until the
// next call.
func (v *vae) decode(stop *onnx.Stop, latents []float32, h, w int, tile float64) ([]float32, error) {
	x := make([]float32, len(latents))
	defer clear(x)
	for i, z := range latents {
		x[i] = v.fromLatent(z, i*latentChannels/len(latents))
	}
	from, to := plane{latentChannels, 1}, plane{3, v.factor()}
	pixels, err := v.decoder.runPlanes(stop, x, h, w, tile, from, to)
	if err == nil && v.openWide != nil && !finite(pixels) {
		// In full precision what overflows in half, as SDXL's first VAE does.
		if v.wide == nil {
			v.wide, err = v.openWide(stop.Context())
		}
		if err == nil {
			pixels, err = v.wide.runPlanes(stop, x, h, w, tile, from, to)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("decode latents: %w", err)
	}
	return pixels, nil
}

func (v *vae) close() error {
	var errs []error
	for _, c := range []*codec{v.decoder, v.encoder, v.wide} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}
