package diffusion

import (
	"context"

	"github.com/imgus/worker/inference/noise"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
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
