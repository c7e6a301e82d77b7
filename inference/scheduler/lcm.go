package scheduler

import (
	"fmt"
	"math"
)

// lcm is LCMScheduler (Luo et al., "Latent Consistency Models", algorithm 3): every call jumps to a clean sample, and
// fresh noise takes it back to the next timestep.
type lcm struct {
	alphas
	limit    limit
	original int // steps of the distillation, which a run picks from
	scaling  float32
	// ownPipeline says that the model is an LCM: its image-to-image pipeline shortens the distillation steps that a
	// run picks from. The pipelines of other models leave out the run's first steps.
	ownPipeline bool
}

func newLCM(c Config) (sampler, error) {
	d := betaDefaults{start: 0.00085, end: 0.012, schedule: "scaled_linear", zeroSNR: exactZeroSNR}
	a, err := newAlphas(c, d, or(c.SetAlphaToOne, true), epsilon, velocity, sample)
	if err != nil {
		return nil, err
	}
	l, err := newLimit(c, false)
	if err != nil {
		return nil, err
	}
	original := or(c.OriginalInferenceSteps, 50)
	if original < 1 || original > a.trainSteps() {
		return nil, fmt.Errorf("%w: original_inference_steps %d is not between 1 and %d", ErrUnsupported, original, a.trainSteps())
	}
	return &lcm{a, l, original, float32(or(c.TimestepScaling, 10)), c.ClassName == "LCMScheduler" && !c.ForeignPipeline}, nil
}

func (l *lcm) schedule(steps int, strength float64) (*Schedule, error) {
	begin, candidates := 0, l.original
	if l.ownPipeline {
		candidates = int(float64(l.original) * strength)
	} else {
		var err error
		if begin, err = firstCall(steps, strength, 1); err != nil {
			return nil, err
		}
	}
	if candidates < steps {
		return nil, fmt.Errorf("%w: %d are more than the %d of the model's distillation at strength %v", ErrSteps, steps, candidates, strength)
	}
	ratio := l.trainSteps() / l.original
	timesteps := make([]int, steps)
	part := float64(candidates) / float64(steps)
	for i := range timesteps {
		skip := int(math.Floor(float64(i) * part))
		timesteps[i] = (candidates-skip)*ratio - 1
	}
	timesteps = timesteps[begin:]

	m := &lcmMethod{lcm: l}
	for i, t := range timesteps {
		next := t
		if i+1 < len(timesteps) {
			next = timesteps[i+1]
		}
		scaled := float32(float32(t) * l.scaling)
		spread := float32(scaled*scaled) + 0.25
		m.calls = append(m.calls, lcmCall{model: l.at(t), skip: 0.25 / spread, out: scaled / sqrt(spread), next: l.at(next)})
	}
	return l.assemble(timesteps, m), nil
}

// lcmCall has the weights of the boundary condition, and the level that the sample is noised to.
type lcmCall struct {
	model     variancePreserving
	skip, out float32
	next      variancePreserving
}

type lcmMethod struct {
	*lcm
	calls []lcmCall
}

func (m *lcmMethod) start(own *memory) run {
	return &lcmRun{lcmMethod: m, buffer: own.floats(), scratch: m.limit.scratch(own)}
}

type lcmRun struct {
	*lcmMethod
	buffer, scratch []float32
}

func (r *lcmRun) step(call int, x, output []float32, noise Noise) {
	c := r.calls[call]
	c.model.clean(r.buffer, x, output)
	r.limit.apply(r.buffer, r.scratch)
	for i := range x {
		x[i] = float32(c.out*r.buffer[i]) + float32(c.skip*x[i])
	}
	if call+1 == len(r.calls) {
		return // the last call ends at the clean sample
	}
	noise.Normal(r.buffer)
	for i := range x {
		x[i] = float32(c.next.signal*x[i]) + float32(c.next.noise*r.buffer[i])
	}
}
