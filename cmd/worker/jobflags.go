package main

import (
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// jobFlags are the flags of one job's fields.
type jobFlags struct {
	names []string

	id, kind, model, prompt, negativePrompt, scheduler string
	input, mask, format, subject                       string
	prompt2, negativePrompt2, promptSyntax             string
	originalSize, targetSize, crop                     []int
	width, height, steps, images, clipSkip, quality    int
	seed                                               int64
	guidance, rescale, imageGuidance, strength         float64
	keepInput                                          bool
}

func (f *jobFlags) register(cmd *cobra.Command) {
	flags := pflag.NewFlagSet("job", pflag.ContinueOnError)
	defer func() {
		flags.VisitAll(func(flag *pflag.Flag) { f.names = append(f.names, flag.Name) })
		cmd.Flags().AddFlagSet(flags)
	}()
	flags.StringVar(&f.id, "id", "", "the job's `ID` (default: a new one)")
	flags.StringVar(&f.kind, "kind", "", "text-to-image, image-to-image or inpaint (default: by --input and --mask)")
	flags.StringVar(&f.model, "model", "", "the model's `NAME`")
	flags.StringVar(&f.prompt, "prompt", "", "what to draw")
	flags.StringVar(&f.negativePrompt, "negative-prompt", "", "what to keep out")
	flags.StringVar(&f.prompt2, "prompt-2", "", "what SDXL's second text encoder reads (default: the prompt)")
	flags.StringVar(&f.negativePrompt2, "negative-prompt-2", "", "what it reads in place of the negative prompt")
	flags.StringVar(&f.promptSyntax, "prompt-syntax", "", "plain, or weighted: (word:1.2), [word], BREAK (default plain)")
	flags.IntSliceVar(&f.originalSize, "original-size", nil, "`W,H` that SDXL is told the picture had")
	flags.IntSliceVar(&f.targetSize, "target-size", nil, "`W,H` that SDXL is told to aim for")
	flags.IntSliceVar(&f.crop, "crop", nil, "`TOP,LEFT` that SDXL is told the picture was cropped at")
	flags.Int64Var(&f.seed, "seed", 0, "seed of the first image (default: from the id)")
	flags.IntVar(&f.steps, "steps", 0, "denoising steps, 1 to 150 (default: the model's)")
	flags.Float64Var(&f.guidance, "guidance-scale", 0, "how closely to follow the prompt, 0 to 30 (default: the model's)")
	flags.Float64Var(&f.rescale, "guidance-rescale", 0, "takes back the contrast that guidance adds, 0 to 1")
	flags.Float64Var(&f.imageGuidance, "image-guidance-scale", 0, "how closely an instruct-pix2pix model follows the photo, 0 to 10")
	flags.IntVar(&f.clipSkip, "clip-skip", 0, "layers of the text encoder to leave out, 0 to 8")
	flags.StringVar(&f.scheduler, "scheduler", "", "sampler, such as euler or dpmpp-2m-karras (default: the model's)")
	flags.IntVar(&f.width, "width", 0, "width in pixels (default: the photo's or the model's)")
	flags.IntVar(&f.height, "height", 0, "height in pixels")
	flags.IntVar(&f.images, "images", 1, "number of images, 1 to 8")
	flags.Float64Var(&f.strength, "strength", 0, "how far to go from the photo, 0 to 1 (default: the model's)")
	flags.StringVar(&f.input, "input", "", "photo `FILE` to start from")
	flags.StringVar(&f.mask, "mask", "", "mask `FILE`: white is painted anew")
	flags.StringVar(&f.format, "format", "", "png, jpeg or webp (default png)")
	flags.IntVar(&f.quality, "quality", 0, "of jpeg and webp, 1 to 100 (default 90)")
}

// exclude refuses the job's flags, but those named, beside another flag that
// gives whole jobs.
func (f *jobFlags) exclude(cmd *cobra.Command, other string, but ...string) error {
	for _, name := range f.names {
		if cmd.Flags().Changed(name) && !slices.Contains(but, name) {
			return usage("--%s does not go with --%s, which has the whole job", name, other)
		}
	}
	return nil
}

// job makes the job of the flags that were given. Input and mask are left to
// the command: to one they are files, to another object keys.
func (f *jobFlags) job(cmd *cobra.Command) *job.Job {
	given := cmd.Flags().Changed
	j := &job.Job{Version: job.Version, ID: f.id, Kind: job.Kind(f.kind), Model: f.model, KeepInput: f.keepInput}
	if j.ID == "" {
		j.ID = queue.NewID()
	}
	if f.kind == "" {
		switch {
		case f.mask != "" || given("mask-key"):
			j.Kind = job.Inpaint
		case f.input != "" || given("input-key"):
			j.Kind = job.ImageToImage
		default:
			j.Kind = job.TextToImage
		}
	}
	set(given("prompt"), &j.Prompt, f.prompt)
	set(given("negative-prompt"), &j.NegativePrompt, f.negativePrompt)
	set(given("prompt-2"), &j.Prompt2, f.prompt2)
	set(given("negative-prompt-2"), &j.NegativePrompt2, f.negativePrompt2)
	set(given("prompt-syntax"), &j.PromptSyntax, job.Syntax(f.promptSyntax))
	set(len(f.originalSize) == 2, &j.OriginalSize, pair(f.originalSize))
	set(len(f.targetSize) == 2, &j.TargetSize, pair(f.targetSize))
	set(len(f.crop) == 2, &j.Crop, pair(f.crop))
	set(given("seed"), &j.Seed, f.seed)
	set(given("steps"), &j.Steps, f.steps)
	set(given("guidance-scale"), &j.GuidanceScale, f.guidance)
	set(given("guidance-rescale"), &j.GuidanceRescale, f.rescale)
	set(given("image-guidance-scale"), &j.ImageGuidanceScale, f.imageGuidance)
	set(given("clip-skip"), &j.ClipSkip, f.clipSkip)
	set(given("scheduler"), &j.Scheduler, f.scheduler)
	set(given("width"), &j.Width, f.width)
	set(given("height"), &j.Height, f.height)
	set(given("images"), &j.Images, f.images)
	set(given("strength"), &j.Strength, f.strength)
	set(given("subject"), &j.Subject, f.subject)
	if given("format") || given("quality") {
		j.Output = &job.Output{}
		set(given("format"), &j.Output.Format, job.Format(f.format))
		set(given("quality"), &j.Output.Quality, f.quality)
	}
	return j
}

// pair is a list of two as an array.
func pair(list []int) (p [2]int) {
	copy(p[:], list)
	return p
}

func set[T any](given bool, field **T, value T) {
	if given {
		*field = &value
	}
}

// readInput reads a photo or mask, which must be no larger than the contract
// allows. Its name stays out of the error.
func readInput(file, field string) ([]byte, error) {
	missing := job.Errorf(job.InputMissing, "%s: there is no such file that can be read", field)
	// A pipe or device has no end, and a pipe without a writer none of its own.
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return nil, missing
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, missing
	}
	defer f.Close()
	limit := job.HardLimits().InputBytes
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, missing
	}
	if int64(len(data)) > limit {
		return nil, job.Errorf(job.InputTooLarge, "%s: larger than %d bytes", field, limit)
	}
	return data, nil
}
