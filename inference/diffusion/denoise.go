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

	// prediction is what the samples' predictions are combined into.
	prediction []float32
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
	drawer                *drawer

	// conditioned are the rows whose conditions the tensors hold.
	conditioned []*row
	group       []*row
}

// step advances every row by one call of the UNet. Rows of equal timestep share
// a call; so do all rows where the model takes a timestep per sample.
func (d *denoiser) step(stop *onnx.Stop, rows []*row) error {
	if d.unet.perSample {
		return d.call(stop, rows)
	}
	for i, r := range rows {
		t := r.state.Timestep()
		if slices.ContainsFunc(rows[:i], func(o *row) bool { return o.state.Timestep() == t }) {
			continue // it went with an earlier row's group
		}
		d.group = d.group[:0]
		for _, o := range rows[i:] {
			if o.state.Timestep() == t {
				d.group = append(d.group, o)
			}
		}
		if err := d.call(stop, d.group); err != nil {
			return err
		}
	}
	return nil
}

func (d *denoiser) call(stop *onnx.Stop, rows []*row) error {
	samples := 0
	for _, r := range rows {
		samples += len(r.samples)
	}
	before := d.unet.binding
	binding, err := d.unet.bind(unetShape{samples, d.height, d.width, d.tokens})
	if err != nil {
		return fmt.Errorf("prepare unet: %w", err)
	}
	if binding != before || !slices.Equal(rows, d.conditioned) {
		d.condition(binding, rows)
		d.conditioned = append(d.conditioned[:0], rows...)
	}
	d.feed(binding, rows)
	drawing := d.drawer.begin(rows)
	err = binding.Run(stop)
	if drawing {
		d.drawer.await()
	}
	if err != nil {
		return fmt.Errorf("run unet: %w", err)
	}
	d.advance(binding, rows)
	return nil
}

// advance takes every row's step by what the UNet predicted.
func (d *denoiser) advance(binding *onnx.Binding, rows []*row) {
	out := binding.Tensor(d.unet.output).Floats()
	for _, r := range rows {
		n := len(r.samples) * len(r.latents)
		r.guidance.combine(r.prediction, out[:n])
		out = out[n:]
		r.state.Step(r.latents, r.prediction, r.noise)
		if r.afterStep != nil {
			r.afterStep(r)
		}
	}
}

// condition writes what stays the same over the steps.
func (d *denoiser) condition(b *onnx.Binding, rows []*row) {
	i := 0
	for _, r := range rows {
		for _, s := range r.samples {
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
func (d *denoiser) feed(b *onnx.Binding, rows []*row) {
	in := b.Tensor(d.unet.sample).Floats()
	timestep := b.Tensor(d.unet.timestep)
	stride := int(d.unet.channels) * d.height * d.width
	i := 0
	for _, r := range rows {
		first := in[i*stride : i*stride+len(r.latents)]
		r.state.ScaleInput(first, r.latents)
		for k := range r.samples {
			if k > 0 {
				copy(in[(i+k)*stride:], first)
			}
			if d.unet.perSample {
				timestep.SetNumber(i+k, r.state.Timestep())
			}
		}
		i += len(r.samples)
	}
	if !d.unet.perSample {
		timestep.SetNumber(0, rows[0].state.Timestep())
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
