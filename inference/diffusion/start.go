package diffusion

import (
	"fmt"
	"slices"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
)

// Channels of a UNet's input by what the model was trained for.
const (
	channelsPix2Pix = 2 * latentChannels
	channelsInpaint = 2*latentChannels + 1
)

// rows makes the task's rows at their starting point. Image i has a generator
// of its own, so that its picture does not depend on its batch. The order of
// the draws is the reference pipelines'.
func (p *Pipeline) rows(stop *onnx.Stop, t Task, c conditions) ([]*row, error) {
	s, err := p.Scheduler(t.Scheduler)
	if err != nil {
		return nil, fmt.Errorf("choose scheduler: %w", err)
	}
	schedule, err := p.schedule(s, t)
	if err != nil {
		return nil, fmt.Errorf("plan steps: %w", err)
	}
	photo, masked, err := p.encodePhoto(stop, t)
	defer masked.wipe()
	if !p.EditsPhotos() { // there the rows keep it
		defer photo.wipe()
	}
	if err != nil {
		return nil, err
	}
	n := latentChannels * t.Height / p.vae.factor() * t.Width / p.vae.factor()
	rows := make([]*row, len(t.Seeds))
	for i, seed := range t.Seeds {
		r := &row{
			noise:      &stepNoise{Generator: noise.New(uint64(seed))}, //nolint:gosec // seeds are not negative
			state:      schedule.NewState(n),
			calls:      len(schedule.Timesteps()),
			prediction: make([]float32, n),
			guidance:   guidance{scale: float32(t.Guidance), rescale: float32(t.Rescale), image: float32(t.ImageGuidance)},
		}
		extra := p.start(r, t, schedule, photo, masked, n)
		r.samples = p.samples(t, c, extra)
		rows[i] = r
	}
	return rows, nil
}

func (p *Pipeline) schedule(s scheduler.Scheduler, t Task) (*scheduler.Schedule, error) {
	strength := 1.0
	if t.Kind.NeedsInput() && !p.EditsPhotos() {
		strength = t.Strength
	}
	return s.Schedule(t.Steps, strength)
}

// encodePhoto encodes the photo and, for inpainting, the photo without what is
// to be painted.
func (p *Pipeline) encodePhoto(stop *onnx.Stop, t Task) (photo, masked posterior, err error) {
	if !t.Kind.NeedsInput() {
		return photo, masked, nil
	}
	h, w := t.Height/p.vae.factor(), t.Width/p.vae.factor()
	if photo, err = p.vae.encode(stop, t.Photo, h, w, t.Tile); err != nil || t.Kind != job.Inpaint {
		return photo, masked, err
	}
	kept := clone(t.Photo)
	defer clear(kept)
	for i := range kept {
		if t.Mask[i%len(t.Mask)] >= 0.5 {
			kept[i] = 0
		}
	}
	masked, err = p.vae.encode(stop, kept, h, w, t.Tile)
	return photo, masked, err
}

// start sets the row's first latents and returns the channels that the UNet
// takes beside them.
func (p *Pipeline) start(r *row, t Task, s *scheduler.Schedule, photo, masked posterior, n int) []float32 {
	switch {
	case t.Kind == job.Inpaint:
		return p.startInpaint(r, t, s, photo, masked, n)
	case p.EditsPhotos():
		// The photo's latents are the mode, unscaled
		// (StableDiffusionInstructPix2PixPipeline.prepare_image_latents).
		r.latents = pureNoise(r, s, n)
		return photo.mean
	case t.Kind == job.ImageToImage:
		x0 := p.vae.sample(photo, r.noise.Generator)
		r.latents = make([]float32, n)
		r.noise.Generator.Normal(r.latents)
		s.AddNoise(r.latents, x0, r.latents, 0)
		clear(x0)
		return nil
	default:
		r.latents = pureNoise(r, s, n)
		return nil
	}
}

func pureNoise(r *row, s *scheduler.Schedule, n int) []float32 {
	x := make([]float32, n)
	r.noise.Generator.Normal(x)
	for i := range x {
		x[i] *= s.InitNoiseSigma()
	}
	return x
}

// startInpaint follows StableDiffusionInpaintPipeline: a model with nine
// channels is shown mask and masked photo; one with four has what is to be kept
// put back after each step, as noisy as the next step expects it.
func (p *Pipeline) startInpaint(r *row, t Task, s *scheduler.Schedule, photo, masked posterior, n int) []float32 {
	nine := p.unet.channels == channelsInpaint
	var x0 []float32
	if !nine || t.Strength < 1 {
		x0 = p.vae.sample(photo, r.noise.Generator)
	}
	start := make([]float32, n)
	r.noise.Generator.Normal(start)
	r.latents = make([]float32, n)
	if t.Strength < 1 {
		s.AddNoise(r.latents, x0, start, 0)
	} else {
		for i, v := range start {
			r.latents[i] = v * s.InitNoiseSigma()
		}
	}
	// Drawn in any case: the draws that follow depend on it.
	keep := p.vae.sample(masked, r.noise.Generator)
	defer clear(keep)
	mask := latentMask(t, p.vae.factor())
	if nine {
		clear(x0)
		return slices.Concat(mask, keep)
	}
	proper := make([]float32, n)
	r.private = append(r.private, x0, proper)
	r.afterStep = func(r *row) {
		copy(proper, x0)
		if !r.done() {
			s.AddNoise(proper, x0, start, r.state.Call())
		}
		for i, m := range mask {
			for k := i; k < n; k += len(mask) {
				r.latents[k] = float32((1-m)*proper[k]) + float32(m*r.latents[k])
			}
		}
	}
	return nil
}

// latentMask is the mask at the size of the latents, by the nearest neighbour.
func latentMask(t Task, factor int) []float32 {
	h, w := t.Height/factor, t.Width/factor
	mask := make([]float32, 0, h*w)
	for y := range h {
		for x := range w {
			m := float32(0)
			if t.Mask[y*factor*t.Width+x*factor] >= 0.5 {
				m = 1
			}
			mask = append(mask, m)
		}
	}
	return mask
}
