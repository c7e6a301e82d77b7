// Package scheduler holds the samplers of diffusion models: which timesteps the model is asked for, how an output
// moves the sample, and where random numbers are drawn.
//
// Every scheduler is a port of the class of that name in diffusers 0.39, float32 for float32: a seed makes the same
// picture in both. Products are converted explicitly before a sum, so that Go never fuses them into an FMA.
package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// ErrUnknown says that a scheduler's name or class is not one of those in this package.
var ErrUnknown = errors.New("unknown scheduler")

// ErrUnsupported says that the model's configuration asks for what this package, or the reference, cannot do.
var ErrUnsupported = errors.New("unsupported scheduler configuration")

// ErrSteps says that the number of steps does not fit the model or the strength.
var ErrSteps = errors.New("invalid number of steps")

// Scheduler is a sampler made for one model. It is immutable and safe for concurrent use.
type Scheduler interface {
	// Name is one of Names.
	Name() string

	// Schedule lays out a run of steps steps. A strength of 1 starts from pure noise; below 1 the run is the last
	// int(steps*strength) steps, as in image-to-image. Errors wrap ErrSteps or ErrUnsupported.
	Schedule(steps int, strength float64) (*Schedule, error)
}

// State is one image on its way through a Schedule. It is not safe for concurrent use.
type State interface {
	// Timestep is what the model takes at the current call.
	Timestep() float32

	// ScaleInput writes the model's input for the sample x into dst; they may be the same slice.
	ScaleInput(dst, x []float32)

	// Step moves the sample x, in place, by the model's output at the current call, and goes on to the next call. It
	// draws from noise what the reference draws, and allocates nothing.
	Step(x, output []float32, noise Noise)

	// Call counts the steps taken: the index of the current model call.
	Call() int

	// Done says that no call is left.
	Done() bool

	// Wipe overwrites what is remembered of the image, at its end.
	Wipe()
}

// Noise is a source of standard normal values; *noise.Generator is one.
type Noise interface {
	Normal(dst []float32)
}

// class is a scheduler's class in the reference, and how it is made from a configuration.
type class struct {
	name string
	make func(Config) (sampler, error)
}

// sampler is a class with its configuration.
type sampler interface {
	// schedule lays out a run; steps is within 1 and the number of training timesteps, strength within 0 and 1.
	schedule(steps int, strength float64) (*Schedule, error)
	trainSteps() int
}

var (
	classEuler          = class{"EulerDiscreteScheduler", newEuler}
	classEulerAncestral = class{"EulerAncestralDiscreteScheduler", newEulerAncestral}
	classDDIM           = class{"DDIMScheduler", newDDIM}
	classDDPM           = class{"DDPMScheduler", newDDPM}
	classPNDM           = class{"PNDMScheduler", newPNDM}
	classLMS            = class{"LMSDiscreteScheduler", newLMS}
	classHeun           = class{"HeunDiscreteScheduler", newHeun}
	classDPM2           = class{"KDPM2DiscreteScheduler", newDPM2}
	classDPM2Ancestral  = class{"KDPM2AncestralDiscreteScheduler", newDPM2Ancestral}
	classDPMMultistep   = class{"DPMSolverMultistepScheduler", newDPMMultistep}
	classDPMSinglestep  = class{"DPMSolverSinglestepScheduler", newDPMSinglestep}
	classUniPC          = class{"UniPCMultistepScheduler", newUniPC}
	classDEIS           = class{"DEISMultistepScheduler", newDEIS}
	classLCM            = class{"LCMScheduler", newLCM}
)

// named is a scheduler as a job names it: a class and the options that the name adds to the model's configuration.
type named struct {
	name      string
	class     class
	karras    bool
	algorithm string
}

const sdeDPMSolverPlus = "sde-dpmsolver++"

// schedulers is in the order that Names shows; of one class the plain name comes first.
var schedulers = []named{
	{name: "euler", class: classEuler},
	{name: "euler-karras", class: classEuler, karras: true},
	{name: "euler-a", class: classEulerAncestral},
	{name: "ddim", class: classDDIM},
	{name: "ddpm", class: classDDPM},
	{name: "pndm", class: classPNDM},
	{name: "lms", class: classLMS},
	{name: "heun", class: classHeun},
	{name: "dpm2", class: classDPM2},
	{name: "dpm2-a", class: classDPM2Ancestral},
	{name: "dpmpp-2m", class: classDPMMultistep},
	{name: "dpmpp-2m-karras", class: classDPMMultistep, karras: true},
	{name: "dpmpp-2m-sde", class: classDPMMultistep, algorithm: sdeDPMSolverPlus},
	{name: "dpmpp-2m-sde-karras", class: classDPMMultistep, karras: true, algorithm: sdeDPMSolverPlus},
	{name: "dpmpp-2s", class: classDPMSinglestep},
	{name: "unipc", class: classUniPC},
	{name: "deis", class: classDEIS},
	{name: "lcm", class: classLCM},
}

// Names lists the schedulers that a job may ask for.
func Names() []string {
	names := make([]string, len(schedulers))
	for i, s := range schedulers {
		names[i] = s.name
	}
	return names
}

// New makes the named scheduler for a model with configuration c; the empty name means the model's own class and
// options. A value that c lacks takes the default of the class that will run, not of the class that c names, as
// Class.from_config does in diffusers. Errors wrap ErrUnknown or ErrUnsupported.
func New(name string, c Config) (Scheduler, error) {
	s, err := find(name, c)
	if err != nil {
		return nil, err
	}
	if name != "" {
		if s.karras {
			c.UseKarrasSigmas = &s.karras
		}
		if s.algorithm != "" {
			c.AlgorithmType = &s.algorithm
		}
	}
	sampler, err := s.class.make(c)
	if err != nil {
		return nil, fmt.Errorf("scheduler %s (%s): %w", s.name, s.class.name, err)
	}
	return &scheduler{name: s.name, sampler: sampler}, nil
}

// find returns the entry of a name, or without a name the entry nearest to the configuration's class and options.
func find(name string, c Config) (named, error) {
	if name != "" {
		i := slices.IndexFunc(schedulers, func(s named) bool { return s.name == name })
		if i < 0 {
			return named{}, fmt.Errorf("%w %q: not one of %s", ErrUnknown, name, strings.Join(Names(), " "))
		}
		return schedulers[i], nil
	}
	var nearest named
	for _, s := range schedulers {
		if s.class.name != c.ClassName {
			continue
		}
		fits := (!s.karras || or(c.UseKarrasSigmas, false)) && (s.algorithm == "" || s.algorithm == or(c.AlgorithmType, ""))
		if nearest.name == "" || fits {
			nearest = s // later entries ask for more options
		}
	}
	if nearest.name == "" {
		return named{}, fmt.Errorf("%w class %q: not one of %s", ErrUnknown, c.ClassName, strings.Join(classNames(), " "))
	}
	return nearest, nil
}

func classNames() []string {
	var names []string
	for _, s := range schedulers {
		if !slices.Contains(names, s.class.name) {
			names = append(names, s.class.name)
		}
	}
	return names
}

// scheduler is a sampler under its name, with the checks that all classes share.
type scheduler struct {
	name    string
	sampler sampler
}

func (s *scheduler) Name() string { return s.name }

func (s *scheduler) Schedule(steps int, strength float64) (*Schedule, error) {
	if most := s.sampler.trainSteps(); steps < 1 || steps > most {
		return nil, fmt.Errorf("%w: %d is not between 1 and the model's %d training timesteps", ErrSteps, steps, most)
	}
	if math.IsNaN(strength) || strength < 0 || strength > 1 {
		return nil, fmt.Errorf("%w: strength %v is not between 0 and 1", ErrSteps, strength)
	}
	schedule, err := s.sampler.schedule(steps, strength)
	if err == nil {
		err = schedule.rehearse()
	}
	if err != nil {
		return nil, fmt.Errorf("scheduler %s with %d steps at strength %v: %w", s.name, steps, strength, err)
	}
	return schedule, nil
}

// firstCall returns how many model calls an image-to-image run skips (StableDiffusionImg2ImgPipeline.get_timesteps):
// calls is the number that the scheduler makes for a step.
func firstCall(steps int, strength float64, calls int) (int, error) {
	kept := min(int(float64(steps)*strength), steps) // truncated: 100 steps at 0.29 keep 28
	if kept < 1 {
		return 0, fmt.Errorf("%w: nothing is left of %d steps at strength %v", ErrSteps, steps, strength)
	}
	return (steps - kept) * calls, nil
}
