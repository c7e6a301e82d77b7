package job

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidID reports whether id may name a job, and so stand in an object key.
func ValidID(id string) bool { return validName.MatchString(id) }

// ValidModel reports whether name may name a model.
func ValidModel(name string) bool { return validName.MatchString(name) }

// KeptSteps is how many of the steps a job that starts from a photo takes: the
// product is cut, as the reference does it.
func KeptSteps(steps int, strength float64) int {
	return min(int(float64(steps)*strength), steps)
}

// problems collects everything that is wrong with a job, so that a developer
// mends it in one go. A field is blamed once: what was not read is not missing
// as well.
type problems struct {
	texts  []string
	blamed map[string]bool
}

func (p *problems) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	field, _, _ := strings.Cut(text, ":")
	if p.blamed[field] {
		return
	}
	if p.blamed == nil {
		p.blamed = map[string]bool{}
	}
	p.blamed[field] = true
	p.texts = append(p.texts, text)
}

func (p *problems) err() error {
	if len(p.texts) == 0 {
		return nil
	}
	return Errorf(InvalidJob, "%s", strings.Join(p.texts, "; "))
}

// Validate checks the job against the contract and the limits, and reports
// every problem at once as one *Error with code invalid_job. What only the
// model knows, such as the multiple of its sizes, the engine checks.
func (j *Job) Validate(limits Limits) error {
	var p problems
	j.check(&p, limits)
	return p.err()
}

func (j *Job) check(p *problems, limits Limits) {
	limits = HardLimits().Narrow(limits)
	j.checkIdentity(p)
	j.checkText(p, limits)
	j.checkSize(p, limits)
	j.checkConditions(p)
	j.checkSampling(p, limits)
	j.checkInputs(p)
	j.checkOutput(p)
}

func (j *Job) checkIdentity(p *problems) {
	if j.Version != Version {
		p.add("version: must be %d", Version)
	}
	if !ValidID(j.ID) {
		p.add("id: required; 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
	}
	if !slices.Contains(Kinds(), j.Kind) {
		p.add("kind: required; one of %s", list(Kinds()))
	}
	if !ValidModel(j.Model) {
		p.add("model: required; 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit")
	}
	if j.Subject != nil && (*j.Subject == "" || len(*j.Subject) > 256) {
		p.add("subject: must be 1 to 256 bytes")
	}
}

func (j *Job) checkText(p *problems, limits Limits) {
	if j.Prompt == nil {
		p.add(`prompt: required (it may be "")`)
	}
	text := func(name string, s *string) {
		if s != nil && utf8.RuneCountInString(*s) > limits.Prompt {
			p.add("%s: must be at most %d characters", name, limits.Prompt)
		}
	}
	text("prompt", j.Prompt)
	text("negative_prompt", j.NegativePrompt)
	text("prompt_2", j.Prompt2)
	text("negative_prompt_2", j.NegativePrompt2)
	if j.PromptSyntax != nil && !slices.Contains(Syntaxes(), *j.PromptSyntax) {
		p.add("prompt_syntax: must be one of %s", list(Syntaxes()))
	}
}

func (j *Job) checkSize(p *problems, limits Limits) {
	if (j.Width == nil) != (j.Height == nil) {
		p.add("width, height: give both or none")
	}
	within(p, "width", j.Width, MinSide, limits.Width)
	within(p, "height", j.Height, MinSide, limits.Height)
	if j.Width != nil && j.Height != nil && int64(*j.Width)*int64(*j.Height) > limits.Pixels {
		p.add("width, height: must be at most %d pixels together", limits.Pixels)
	}
}

// maxConditionSide bounds the sizes that SDXL is told: what it was trained on
// was no larger.
const maxConditionSide = 16_384

func (j *Job) checkConditions(p *problems) {
	pair := func(name string, v *[2]int, low int) {
		if v != nil {
			within(p, name+"[0]", &v[0], low, maxConditionSide)
			within(p, name+"[1]", &v[1], low, maxConditionSide)
		}
	}
	pair("original_size", j.OriginalSize, 1)
	pair("target_size", j.TargetSize, 1)
	pair("crop", j.Crop, 0)
}

func (j *Job) checkSampling(p *problems, limits Limits) {
	within(p, "steps", j.Steps, 1, limits.Steps)
	within(p, "images", j.Images, 1, limits.Images)
	within(p, "guidance_scale", j.GuidanceScale, 0, 30)
	within(p, "guidance_rescale", j.GuidanceRescale, 0, 1)
	within(p, "image_guidance_scale", j.ImageGuidanceScale, 0, 10)
	within(p, "strength", j.Strength, 0, 1)
	within(p, "clip_skip", j.ClipSkip, 0, MaxClipSkip)
	images := 1
	if j.Images != nil && *j.Images >= 1 {
		images = *j.Images
	}
	within(p, "seed", j.Seed, 0, MaxSeed-int64(images)+1)
	if j.Scheduler != nil && !slices.Contains(Schedulers(), *j.Scheduler) {
		p.add("scheduler: must be one of %s", strings.Join(Schedulers(), ", "))
	}
	if j.Kind.NeedsInput() && j.Steps != nil && j.Strength != nil && KeptSteps(*j.Steps, *j.Strength) < 1 {
		p.add("steps, strength: steps x strength must be at least 1")
	}
}

func (j *Job) checkInputs(p *problems) {
	if j.Kind.NeedsInput() && (j.Input == nil || *j.Input == "") {
		p.add("input: required for %s", j.Kind)
	}
	if j.Kind == Inpaint && (j.Mask == nil || *j.Mask == "") {
		p.add("mask: required for %s", j.Kind)
	}
	if j.Kind == TextToImage && j.Input != nil {
		p.add("input: not for %s; use %s or %s", j.Kind, ImageToImage, Inpaint)
	}
	if j.Kind != Inpaint && slices.Contains(Kinds(), j.Kind) && j.Mask != nil {
		p.add("mask: only for %s", Inpaint)
	}
}

func (j *Job) checkOutput(p *problems) {
	if j.Output == nil {
		return
	}
	if f := j.Output.Format; f != nil && !slices.Contains(Formats(), *f) {
		p.add("output.format: must be one of %s", list(Formats()))
	}
	within(p, "output.quality", j.Output.Quality, 1, 100)
}

// Expired reports whether the job's time is over.
func (j *Job) Expired(now time.Time) bool { return j.ExpiresAt != nil && !now.Before(*j.ExpiresAt) }

func within[T int | int64 | float64](p *problems, name string, v *T, low, high T) {
	// The negation also refuses NaN.
	if v != nil && !(*v >= low && *v <= high) {
		p.add("%s: must be from %v to %v", name, low, high)
	}
}

func list[T ~string](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}
