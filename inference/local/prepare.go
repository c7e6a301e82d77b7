package local

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"strings"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/imaging/mark"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/job"
)

// prepared is a job with every value filled in.
type prepared struct {
	task       diffusion.Task
	parameters job.Parameters
	// mark is what the pictures say of their making; nil is nothing.
	mark *mark.Mark
}

// defaultQuality is the quality of lossy formats.
const defaultQuality = 90

// prepare fills in what the job leaves out, from the model and then built-in,
// checks what only the model knows, and brings the photo to its size.
func (e *Engine) prepare(ctx context.Context, r inference.Request, l *loaded) (prepared, error) {
	limits := e.limits(l)
	if err := r.Job.Validate(limits); err != nil {
		return prepared{}, err
	}
	var photo, mask *image.NRGBA
	defer func() { imaging.Wipe(photo, mask) }()
	var err error
	if r.Job.Kind.NeedsInput() {
		if photo, err = decode(ctx, r.Input, "input", limits); err != nil {
			return prepared{}, err
		}
	}
	p, err := resolve(r.Job, l, limits, photo)
	if err != nil {
		return prepared{}, err
	}
	if name := e.options.Mark; name != "" {
		p.mark = new(mark.Of(r.Job, name, e.options.Worker))
	}
	w, h := p.task.Width, p.task.Height
	if photo != nil {
		fitted := imaging.Resize(photo, w, h)
		p.task.Photo = make([]float32, 3*w*h)
		imaging.ToTensor(p.task.Photo, fitted)
		imaging.Wipe(fitted)
	}
	if r.Job.Kind == job.Inpaint {
		imaging.Wipe(photo)
		photo = nil // two large pictures are not held at once
		if mask, err = decode(ctx, r.Mask, "mask", limits); err != nil {
			clear(p.task.Photo)
			return prepared{}, err
		}
		fitted := imaging.Resize(mask, w, h)
		p.task.Mask = make([]float32, w*h)
		imaging.ToMask(p.task.Mask, fitted)
		imaging.Wipe(fitted)
	}
	return p, nil
}

// limits are what jobs for the model may ask for.
func (e *Engine) limits(l *loaded) job.Limits {
	return job.HardLimits().Narrow(e.options.Limits).Narrow(l.model.Manifest.Limits)
}

func decode(ctx context.Context, data []byte, field string, limits job.Limits) (*image.NRGBA, error) {
	l := imaging.DefaultLimits()
	l.Bytes, l.Pixels, l.Side = limits.InputBytes, limits.InputPixels, limits.InputSide
	img, err := imaging.Decode(ctx, data, l)
	switch {
	case err == nil:
		return img, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, imaging.ErrTooLarge):
		return nil, job.Errorf(job.InputTooLarge, "%s: %s", field, err)
	default:
		return nil, job.Errorf(job.InputInvalid, "%s: %s", field, err)
	}
}

// resolve gives the job's effective values. It reports every problem at once.
func resolve(j *job.Job, l *loaded, limits job.Limits, photo *image.NRGBA) (prepared, error) {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	d := l.model.Defaults
	t := diffusion.Task{
		Kind:          j.Kind,
		Prompt:        *j.Prompt,
		Negative:      either(j.NegativePrompt, d.NegativePrompt),
		Prompt2:       j.Prompt2,
		Negative2:     j.NegativePrompt2,
		Weighted:      pick(j.PromptSyntax, nil, job.Plain) == job.Weighted,
		Steps:         pick(j.Steps, capped(d.Steps, limits.Steps), 0),
		Guidance:      pick(j.GuidanceScale, d.GuidanceScale, 0),
		Rescale:       pick(j.GuidanceRescale, d.GuidanceRescale, 0),
		ImageGuidance: pick(j.ImageGuidanceScale, d.ImageGuidanceScale, 0),
		Strength:      pick(j.Strength, d.Strength, 1),
		ClipSkip:      pick(j.ClipSkip, d.ClipSkip, 0),
		Scheduler:     pick(j.Scheduler, d.Scheduler, ""),
	}
	images := pick(j.Images, nil, 1)
	for i := range images {
		t.Seeds = append(t.Seeds, j.EffectiveSeed()+int64(i))
	}
	if err := l.pipeline.Supports(t); err != nil {
		add("%s", err)
	}
	t.Width, t.Height = size(j, d.Width, d.Height, l.pipeline, limits, photo)
	t.OriginalSize = pick(j.OriginalSize, nil, [2]int{t.Width, t.Height})
	t.TargetSize = pick(j.TargetSize, nil, [2]int{t.Width, t.Height})
	t.Crop = pick(j.Crop, nil, [2]int{})
	checkSDXL(j, l.pipeline, add)
	checkMultiple(j, l.pipeline.Multiple(), add)
	if j.Kind.NeedsInput() && job.KeptSteps(t.Steps, t.Strength) < 1 {
		add("steps, strength: %d steps x strength %v leaves no step; it must be at least 1", t.Steps, t.Strength)
	}
	name := ""
	s, err := l.pipeline.Scheduler(t.Scheduler)
	if err != nil {
		add("scheduler: %s", err)
	} else {
		name = s.Name()
	}
	if len(problems) > 0 {
		return prepared{}, job.Errorf(job.InvalidJob, "%s", strings.Join(problems, "; "))
	}

	parameters := job.Parameters{
		Width: t.Width, Height: t.Height, Steps: t.Steps, GuidanceScale: t.Guidance, GuidanceRescale: t.Rescale, Seed: t.Seeds[0],
		Images: images, Scheduler: name, ClipSkip: t.ClipSkip, PromptSyntax: pick(j.PromptSyntax, nil, job.Plain),
		Output: job.EffectiveOutput{Format: job.PNG, Quality: defaultQuality},
	}
	if j.Kind.NeedsInput() {
		parameters.Strength = &t.Strength
	}
	if l.pipeline.EditsPhotos() {
		parameters.Strength, parameters.ImageGuidanceScale = nil, &t.ImageGuidance
	}
	if l.pipeline.TakesSizes() {
		parameters.OriginalSize, parameters.TargetSize, parameters.Crop = &t.OriginalSize, &t.TargetSize, &t.Crop
	}
	if j.Output != nil {
		parameters.Output.Format = pick(j.Output.Format, nil, job.PNG)
		parameters.Output.Quality = pick(j.Output.Quality, nil, defaultQuality)
	}
	return prepared{task: t, parameters: parameters}, nil
}

// checkSDXL refuses what only SDXL understands where it would be passed over.
func checkSDXL(j *job.Job, p pipeline, add func(string, ...any)) {
	if (j.Prompt2 != nil || j.NegativePrompt2 != nil) && !p.TwoPrompts() {
		add("prompt_2, negative_prompt_2: the model has no second text encoder")
	}
	if (j.OriginalSize != nil || j.TargetSize != nil || j.Crop != nil) && !p.TakesSizes() {
		add("original_size, target_size, crop: the model takes none; only SDXL does")
	}
}

// checkMultiple refuses sides that the model cannot make, naming the nearest
// that it can.
func checkMultiple(j *job.Job, multiple int, add func(string, ...any)) {
	for _, side := range []struct {
		name  string
		value *int
	}{{"width", j.Width}, {"height", j.Height}} {
		if v := side.value; v != nil && *v%multiple != 0 {
			nearest := max((*v+multiple/2)/multiple*multiple, multiple)
			add("%s: must be a multiple of %d for this model; the nearest is %d", side.name, multiple, nearest)
		}
	}
}

// size is the job's own size; else the photo's or the model's default, scaled
// down to the limits and to the model's multiple.
func size(j *job.Job, width, height *int, p pipeline, limits job.Limits, photo *image.NRGBA) (w, h int) {
	if j.Width != nil && j.Height != nil {
		return *j.Width, *j.Height
	}
	w, h = p.DefaultSize()
	switch {
	case photo != nil:
		w, h = photo.Rect.Dx(), photo.Rect.Dy()
	case width != nil && height != nil:
		w, h = *width, *height
	}
	scale := min(1, float64(limits.Width)/float64(w), float64(limits.Height)/float64(h), math.Sqrt(float64(limits.Pixels)/float64(w)/float64(h)))
	return fit(float64(w)*scale, p.Multiple()), fit(float64(h)*scale, p.Multiple())
}

// fit rounds a side down to the multiple, but not below the smallest side.
func fit(side float64, multiple int) int {
	smallest := (job.MinSide + multiple - 1) / multiple * multiple
	// The scale is a quotient: a side that should fit exactly may come out a
	// hair too small.
	return max(int(side+1e-6)/multiple*multiple, smallest)
}

// pick is the job's value, else the model's, else the built-in one.
func pick[T any](own, model *T, builtin T) T {
	if v := either(own, model); v != nil {
		return *v
	}
	return builtin
}

func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// capped narrows a default to a limit.
func capped(v *int, limit int) *int {
	if v != nil && *v > limit {
		return &limit
	}
	return v
}
