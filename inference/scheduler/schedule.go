package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// Schedule is one run laid out: what the images of a job share. It is immutable and safe for concurrent use.
type Schedule struct {
	timesteps      []float32
	sigmas         []float32 // of the kept calls and the end; nil where a class works on alphas
	initNoiseSigma float32
	noising        []mix     // by call: the noised sample is signal*x0 + noise*n
	inputScale     []float32 // by call: the model's input is x divided by it; nil for x itself
	method         method
}

// mix is a weighted sum of a clean sample and noise.
type mix struct{ signal, noise float32 }

// method is a class's step with the numbers of every call worked out.
type method interface {
	// start returns a run for one image, with all its buffers, which are own's.
	start(own *memory) run
}

// run is what one image carries from call to call.
type run interface {
	step(call int, x, output []float32, noise Noise)
}

// Timesteps are the kept timesteps, one for each model call, whole numbers or not as the class has them.
func (s *Schedule) Timesteps() []float32 { return slices.Clone(s.timesteps) }

// Sigmas are the noise levels from the first kept call to the end, or nil for a class that has none (DDIM, DDPM,
// PNDM, LCM).
func (s *Schedule) Sigmas() []float32 { return slices.Clone(s.sigmas) }

// InitNoiseSigma is the standard deviation of the sample that text-to-image starts from.
func (s *Schedule) InitNoiseSigma() float32 { return s.initNoiseSigma }

// AddNoise writes into dst the clean sample x0 noised to the level of a call, 0 for the start of image-to-image.
// All slices are of one length; dst may be one of the others.
func (s *Schedule) AddNoise(dst, x0, noise []float32, call int) {
	m := s.noising[call]
	for i := range dst {
		dst[i] = float32(m.signal*x0[i]) + float32(m.noise*noise[i])
	}
}

// NewState starts an image of the given number of latent elements.
func (s *Schedule) NewState(elements int) State {
	st := &state{schedule: s, memory: memory{elements: elements}}
	st.run = s.method.start(&st.memory)
	return st
}

// memory is what a run remembers of its image, as floats of so many elements.
type memory struct {
	elements int
	made     [][]float32
}

func (m *memory) floats() []float32 {
	x := make([]float32, m.elements)
	m.made = append(m.made, x)
	return x
}

type state struct {
	memory   memory
	schedule *Schedule
	run      run
	call     int
}

func (s *state) Timestep() float32 { return s.schedule.timesteps[s.call] }
func (s *state) Call() int         { return s.call }
func (s *state) Done() bool        { return s.call == len(s.schedule.timesteps) }

func (s *state) Wipe() {
	for _, x := range s.memory.made {
		clear(x)
	}
}

func (s *state) ScaleInput(dst, x []float32) {
	if s.schedule.inputScale == nil {
		copy(dst, x)
		return
	}
	scale := s.schedule.inputScale[s.call]
	for i := range dst {
		dst[i] = x[i] / scale
	}
}

func (s *state) Step(x, output []float32, noise Noise) {
	s.run.step(s.call, x, output, noise)
	s.call++
}

// constantNoise stands in for the generator in a rehearsal.
type constantNoise struct{}

func (constantNoise) Normal(dst []float32) {
	for i := range dst {
		dst[i] = 0.5
	}
}

// rehearse runs the schedule on a few numbers and refuses what cannot give a picture: some configurations divide by
// zero in the reference as well (log-SNR is infinite at sigma 0, a step may have no length).
func (s *Schedule) rehearse() error {
	if len(s.timesteps) == 0 {
		return fmt.Errorf("%w: no timestep is left", ErrSteps)
	}
	const elements = 8
	x, input, output := make([]float32, elements), make([]float32, elements), make([]float32, elements)
	for i := range x {
		x[i] = s.initNoiseSigma * (float32(i) - 2.5)
	}
	for st := s.NewState(elements); !st.Done(); {
		st.ScaleInput(input, x)
		for i := range output {
			output[i] = float32((st.Call()+3*i)%elements)/4 - 0.9
		}
		st.Step(x, output, constantNoise{})
		if !finite(input) || !finite(x) {
			return fmt.Errorf("%w: step %d of %d gives no number, as in diffusers", ErrUnsupported, st.Call(), len(s.timesteps))
		}
	}
	return nil
}

func finite(values []float32) bool {
	return !slices.ContainsFunc(values, func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) })
}
