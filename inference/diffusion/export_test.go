package diffusion

import (
	"context"
	"slices"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/models/onnxfile"
)

// CombineGuidance lets a test combine predictions by hand.
func CombineGuidance(scale, rescale, image float32, dst, predictions []float32) {
	guidance{scale: scale, rescale: rescale, image: image}.combine(dst, predictions)
}

// What tests outside need of the inside.
var (
	GuidanceEmbedding = guidanceEmbedding
	CheckPixels       = checkPixels
)

// Stepper takes steps of one image without a pipeline around it.
type Stepper struct {
	d        *denoiser
	stop     *onnx.Stop
	rows     []*row
	schedule *scheduler.Schedule
}

// NewStepper prepares a guided image of the size in latents on a UNet.
func NewStepper(rt *onnx.Runtime, unetModel []byte, side, tokens, width int, schedulerName string, config scheduler.Config) (*Stepper, error) {
	session, err := rt.Load(onnx.Source{Data: unetModel}, onnx.Options{Device: onnx.CPU}, nil)
	if err != nil {
		return nil, err
	}
	u := &unet{session: session}
	if err := u.findNames(); err != nil {
		return nil, err
	}
	if err := u.fit(int64(width), 0); err != nil {
		return nil, err
	}
	s, err := scheduler.New(schedulerName, config)
	if err != nil {
		return nil, err
	}
	schedule, err := s.Schedule(300, 1)
	if err != nil {
		return nil, err
	}
	stop, err := onnx.NewStop(context.Background())
	if err != nil {
		return nil, err
	}
	n := latentChannels * side * side
	r := &row{
		latents: make([]float32, n), prediction: make([]float32, n), state: schedule.NewState(n), calls: 300,
		noise: &stepNoise{Generator: noise.New(1)}, guidance: guidance{scale: 7.5},
		samples: []sample{{hidden: make([]float32, tokens*width)}, {hidden: make([]float32, tokens*width)}},
	}
	r.noise.Generator.Normal(r.latents)
	return &Stepper{d: &denoiser{unet: u, height: side, width: side, tokens: tokens, drawer: newDrawer()}, stop: stop, rows: []*row{r}, schedule: schedule}, nil
}

// Step takes one step; it reports false when none is left.
func (s *Stepper) Step() (bool, error) {
	if s.rows[0].done() {
		return false, nil
	}
	return true, s.d.step(s.stop, s.rows)
}

// Rewind begins anew.
func (s *Stepper) Rewind() {
	s.rows[0].state = s.schedule.NewState(len(s.rows[0].latents))
}

// Close frees everything.
func (s *Stepper) Close() error {
	s.d.drawer.close()
	s.stop.Close()
	return s.d.unet.close()
}

// Tiles cuts a side of a picture into tiles: where they begin, their size, and
// the weight of each over its elements.
func Tiles(length int, share float64, scale int) (starts []int, size int, weights [][]float32) {
	a := newAxis(length, share)
	for i := range a.starts {
		weights = append(weights, a.weights(i, scale))
	}
	return a.starts, a.size, weights
}

// CheckElements reports whether the VAE can take so many latents at once.
var CheckElements = checkElements

// Encode gives the mean of a photo's latents, and Decode pixels of latents as
// the VAE has them.
func (p *Pipeline) Encode(stop *onnx.Stop, pixels []float32, h, w int, tile float64) ([]float32, error) {
	x, err := p.vae.encode(stop, pixels, h, w, tile)
	return x.mean, err
}

// Decode gives the pixels of latents.
func (p *Pipeline) Decode(stop *onnx.Stop, latents []float32, h, w int, tile float64) ([]float32, error) {
	x, err := p.vae.decode(stop, latents, h, w, tile)
	return clone(x), err
}

// Scale is the factor between the VAE's latents and the UNet's.
func (p *Pipeline) Scale() float32 { return p.vae.scale }

// Residue counts the numbers that the pipeline's tensors hold.
func (p *Pipeline) Residue() (n int) {
	bindings := []*onnx.Binding{p.unet.binding}
	sessions := []*onnx.Session{p.unet.session}
	for _, e := range p.text {
		bindings, sessions = append(bindings, e.binding), append(sessions, e.session)
	}
	for _, c := range []*codec{p.vae.encoder, p.vae.decoder} {
		bindings, sessions = append(bindings, c.binding), append(sessions, c.session)
	}
	for i, b := range bindings {
		for _, v := range slices.Concat(sessions[i].Inputs(), sessions[i].Outputs()) {
			for _, x := range b.Tensor(v.Name).Floats() {
				if x != 0 {
					n++
				}
			}
		}
	}
	return n
}

// LoadUNet loads a UNet by a function.
func LoadUNet(load func(edit func(*onnxfile.Model) (bool, error)) (*onnx.Session, error), warn func(string, error)) (*onnx.Session, error) {
	return loadUNet(load, warn)
}
