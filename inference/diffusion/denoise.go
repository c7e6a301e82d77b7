package diffusion

import (
	"fmt"
	"math"
	"slices"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
)

// row is one image in the making. Rows are independent: a batch may hold rows
// of several jobs, each at its own timestep with its own scheduler.
type row struct {
	// latents is the sample x, latentChannels x height x width.
	latents []float32
	state   scheduler.State
	calls   int // of the UNet, from start to end
	noise   *stepNoise
	// samples are the row's places in the UNet's batch: one, or with guidance
	// the unconditional first and the conditional after it.
	samples  []sample
	guidance guidance
	// afterStep, if not nil, changes the latents after each scheduler step.
	afterStep func(r *row)

	// private is what else was made of the photo.
	private [][]float32

	// prediction is what the samples' predictions are combined into.
	prediction []float32
	// parts are the samples' predictions, where they come from several calls.
	parts []float32
}

// sample is what the UNet is told beside the latents; it stays the same over
// all steps.
type sample struct {
	hidden []float32
	pooled []float32
	// timeIDs are SDXL's sizes and crop.
	timeIDs []float32
	// guidance is the guidance embedding of a distilled model.
	guidance []float32
	// extra are the channels after the latents: a mask and masked latents, or
	// the latents of the photo.
	extra []float32
}

func (r *row) done() bool { return r.state.Done() }

// denoiser advances rows of one latent size and text length.
type denoiser struct {
	unet                  *unet
	height, width, tokens int
	// most bounds the samples of one call; 0 is no bound.
	most   int
	drawer *drawer

	// conditioned are the samples whose conditions the tensors hold.
	conditioned []span
	left, group []*row
	spans       []span
}

// span is the samples of a row that one call of the UNet takes: all of them,
// unless the device has too little memory.
type span struct {
	*row
	first, count int
}

// step advances every row by one call of the UNet. Rows of equal timestep share
// a call; so do all rows where the model takes a timestep per sample.
func (d *denoiser) step(stop *onnx.Stop, rows []*row) error {
	if d.unet.perSample {
		return d.calls(stop, rows)
	}
	d.left = append(d.left[:0], rows...)
	for len(d.left) > 0 {
		t := d.left[0].state.Timestep()
		d.group = d.group[:0]
		d.left = slices.DeleteFunc(d.left, func(r *row) bool {
			if r.state.Timestep() != t {
				return false
			}
			d.group = append(d.group, r)
			return true
		})
		if err := d.calls(stop, d.group); err != nil {
			return err
		}
	}
	return nil
}

// calls advances the rows in as many calls as the bound on samples asks for.
func (d *denoiser) calls(stop *onnx.Stop, rows []*row) error {
	d.spans = d.spans[:0]
	samples := 0
	for _, r := range rows {
		for first := 0; first < len(r.samples); {
			count := len(r.samples) - first
			if d.most > 0 {
				// A row is kept whole where it can be: calls of one shape cost less.
				if samples > 0 && samples+count > d.most {
					if err := d.call(stop, d.spans, samples); err != nil {
						return err
					}
					d.spans, samples = d.spans[:0], 0
				}
				count = min(count, d.most)
			}
			d.spans = append(d.spans, span{r, first, count})
			samples += count
			first += count
		}
	}
	return d.call(stop, d.spans, samples)
}

func (d *denoiser) call(stop *onnx.Stop, spans []span, samples int) error {
	before := d.unet.binding
	binding, err := d.unet.bind(unetShape{samples, d.height, d.width, d.tokens})
	if err != nil {
		return fmt.Errorf("prepare unet: %w", err)
	}
	if binding != before || !slices.Equal(spans, d.conditioned) {
		d.condition(binding, spans)
		d.conditioned = append(d.conditioned[:0], spans...)
	}
	d.feed(binding, spans)
	drawing := d.drawer.begin(spans)
	err = binding.Run(stop)
	if drawing {
		d.drawer.await()
	}
	if err != nil {
		return fmt.Errorf("run unet: %w", err)
	}
	d.advance(binding, spans)
	return nil
}

// advance takes every row's step by what the UNet predicted, once it has
// predicted all of the row's samples.
func (d *denoiser) advance(binding *onnx.Binding, spans []span) {
	out := binding.Tensor(d.unet.output).Floats()
	for _, s := range spans {
		n := len(s.latents)
		predicted := out[:s.count*n]
		out = out[s.count*n:]
		if s.count < len(s.samples) {
			s.parts = append(s.parts[:s.first*n], predicted...)
			if s.first+s.count < len(s.samples) {
				continue
			}
			predicted = s.parts
		}
		s.guidance.combine(s.prediction, predicted)
		s.state.Step(s.latents, s.prediction, s.noise)
		if s.afterStep != nil {
			s.afterStep(s.row)
		}
	}
}

// condition writes what stays the same over the steps.
func (d *denoiser) condition(b *onnx.Binding, spans []span) {
	i := 0
	for _, r := range spans {
		for _, s := range r.samples[r.first : r.first+r.count] {
			put(b, d.unet.hidden, i, s.hidden)
			put(b, d.unet.pooled, i, s.pooled)
			put(b, d.unet.timeIDs, i, s.timeIDs)
			put(b, d.unet.guidance, i, s.guidance)
			stride := int(d.unet.channels) * d.height * d.width
			copy(b.Tensor(d.unet.sample).Floats()[i*stride+len(r.latents):], s.extra)
			i++
		}
	}
}

// put writes the i-th element of a batch.
func put(b *onnx.Binding, name string, i int, values []float32) {
	if name != "" {
		copy(b.Tensor(name).Floats()[i*len(values):], values)
	}
}

// feed writes the latents and the timesteps.
func (d *denoiser) feed(b *onnx.Binding, spans []span) {
	in := b.Tensor(d.unet.sample).Floats()
	timestep := b.Tensor(d.unet.timestep)
	stride := int(d.unet.channels) * d.height * d.width
	i := 0
	for _, r := range spans {
		first := in[i*stride : i*stride+len(r.latents)]
		r.state.ScaleInput(first, r.latents)
		for k := range r.count {
			if k > 0 {
				copy(in[(i+k)*stride:], first)
			}
			if d.unet.perSample {
				timestep.SetNumber(i+k, r.state.Timestep())
			}
		}
		i += r.count
	}
	if !d.unet.perSample {
		timestep.SetNumber(0, spans[0].state.Timestep())
	}
}

// guidance combines the predictions of a row's samples into one.
type guidance struct {
	scale, rescale float32
	// image is the second scale of instruct-pix2pix, whose rows have three
	// samples.
	image float32
}

// combine writes the guided prediction. The predictions stand one after the
// other: without guidance one; [unconditional, conditional] for classifier-free
// guidance (Ho & Salimans, 2022); [none, image, image and text] for
// instruct-pix2pix (Brooks et al., 2023, eq. 3). Products are rounded before
// they are added, as PyTorch does it.
func (g guidance) combine(dst, predictions []float32) {
	n := len(dst)
	switch len(predictions) / n {
	case 1:
		copy(dst, predictions)
	case 2:
		u, c := predictions[:n], predictions[n:]
		for i := range dst {
			dst[i] = u[i] + float32(g.scale*(c[i]-u[i]))
		}
		if g.rescale > 0 {
			g.rescaleTo(dst, c)
		}
	case 3:
		u, image, text := predictions[:n], predictions[n:2*n], predictions[2*n:]
		for i := range dst {
			dst[i] = u[i] + float32(g.scale*(text[i]-image[i])) + float32(g.image*(image[i]-u[i]))
		}
	}
}

// rescaleTo takes back the growth of the standard deviation that guidance
// brings (Lin et al., 2024, section 3.4).
func (g guidance) rescaleTo(dst, conditional []float32) {
	factor := float32(deviation(conditional) / deviation(dst))
	for i, v := range dst {
		dst[i] = float32(g.rescale*float32(v*factor)) + float32((1-g.rescale)*v)
	}
}

// deviation is the unbiased standard deviation.
func deviation(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / float64(len(x))
	var squares float64
	for _, v := range x {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(squares / float64(len(x)-1))
}
