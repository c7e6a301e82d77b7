// Package diffusion is the latent diffusion pipeline of the Stable Diffusion
// family on ONNX Runtime: text encoding, guidance, the denoising loop and the
// VAE. Its numbers follow diffusers' pipelines.
package diffusion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
)

// ErrBadOutput: the model gave pixels that are no picture.
var ErrBadOutput = errors.New("the model gave a picture that is not finite or has one colour")

// Pipeline is a loaded model. One task at a time may run on it.
type Pipeline struct {
	text      []*textEncoder
	unet      *unet
	vae       *vae
	scheduler scheduler.Config
	index     indexConfig
}

// Task is one job in the pipeline's terms: every value is set and in range.
type Task struct {
	Kind   job.Kind
	Prompt string
	// Negative is nil when the job has none, which is not the same as "" to
	// SDXL.
	Negative *string
	// Prompt2 and Negative2 are for a second text encoder; nil: the first ones.
	Prompt2, Negative2 *string
	// Weighted reads the prompts in A1111's syntax, and long ones in chunks.
	Weighted bool
	// Width and Height are in pixels, multiples of Pipeline.Multiple.
	Width, Height int
	Steps         int
	Guidance      float64
	Rescale       float64
	ImageGuidance float64
	Scheduler     string
	Strength      float64
	ClipSkip      int
	// Seeds has one per image.
	Seeds []int64
	// OriginalSize and TargetSize, [width, height], and Crop, [top, left], are
	// what SDXL is told of the picture it makes.
	OriginalSize, TargetSize, Crop [2]int
	// Photo has 3 x Height x Width values in [-1, 1]; Mask has Height x Width,
	// 1 where to paint anew.
	Photo, Mask []float32

	// MaxBatch bounds the samples that the UNet takes at once, where memory is
	// short; 0 is no bound. It does not change the pictures.
	MaxBatch int
	// Tile is how much of each side the VAE takes at once, where memory is
	// short; 0 is the whole. It changes pixels a little.
	Tile float64
}

// Open loads the pipeline's components onto a device.
func Open(rt *onnx.Runtime, files Files, o onnx.Options) (_ *Pipeline, err error) {
	p := &Pipeline{}
	defer func() {
		if err != nil {
			err = closing(err, p)
		}
	}()
	if err := files.config("model_index.json", &p.index); err != nil {
		return nil, err
	}
	data, err := fs.ReadFile(files.FS, "scheduler/scheduler_config.json")
	if err != nil {
		return nil, fmt.Errorf("read scheduler: %w", err)
	}
	if p.scheduler, err = scheduler.ParseConfig(data); err != nil {
		return nil, fmt.Errorf("read scheduler: %w", err)
	}
	p.scheduler.ForeignPipeline = p.index.Class != "" && !strings.Contains(p.index.Class, "LatentConsistencyModel")
	if err := p.openText(rt, files, o); err != nil {
		return nil, err
	}
	if p.unet, err = openUNet(rt, files, o); err != nil {
		return nil, err
	}
	if p.vae, err = openVAE(rt, files, o, p.defaultScale()); err != nil {
		return nil, err
	}
	return p, p.check()
}

func (p *Pipeline) openText(rt *onnx.Runtime, files Files, o onnx.Options) error {
	two := files.has("text_encoder_2")
	if files.has("text_encoder") {
		e, err := openText(rt, files, o, "text_encoder", "tokenizer", two)
		if err != nil {
			return err
		}
		p.text = append(p.text, e)
	}
	if two {
		e, err := openText(rt, files, o, "text_encoder_2", "tokenizer_2", true)
		if err != nil {
			return err
		}
		p.text = append(p.text, e)
	}
	if len(p.text) == 0 {
		return fmt.Errorf("load model: %w: there is no text_encoder", fs.ErrNotExist)
	}
	return nil
}

// defaultScale is the VAE's factor for configurations that are too old to name
// it.
func (p *Pipeline) defaultScale() float64 {
	if p.TakesSizes() {
		return 0.13025
	}
	return 0.18215
}

func (p *Pipeline) check() error {
	if _, err := scheduler.New("", p.scheduler); err != nil {
		return fmt.Errorf("read scheduler: %w", err)
	}
	var hidden int64
	for _, e := range p.text {
		hidden += e.width
	}
	if err := p.unet.fit(hidden, p.text[len(p.text)-1].pooledWidth); err != nil {
		return fmt.Errorf("load model: %w", err)
	}
	return nil
}

// Multiple is what width and height must be multiples of, in pixels.
func (p *Pipeline) Multiple() int { return p.vae.factor() * p.unet.multiple() }

// DefaultSize is the size the model was trained on, in pixels.
func (p *Pipeline) DefaultSize() (width, height int) {
	h, w := p.unet.config.SampleSize[0], p.unet.config.SampleSize[1]
	if h == 0 || w == 0 { // as the configurations of the time had it
		h, w = 64, 64
		if p.TakesSizes() {
			h, w = 128, 128
		}
	}
	return w * p.vae.factor(), h * p.vae.factor()
}

// TwoPrompts reports whether the model has a second text encoder.
func (p *Pipeline) TwoPrompts() bool { return len(p.text) > 1 }

// TakesSizes reports whether the model is told sizes and crop.
func (p *Pipeline) TakesSizes() bool { return p.unet.timeIDs != "" }

// EditsPhotos reports whether the model follows instructions to edit a photo
// (instruct-pix2pix): it has an image guidance scale in place of a strength.
func (p *Pipeline) EditsPhotos() bool { return p.unet.channels == channelsPix2Pix }

// Samples is how many samples of the UNet's batch an image of the task takes.
func (p *Pipeline) Samples(t Task) int {
	switch {
	case !p.guided(t):
		return 1
	case p.EditsPhotos():
		return 3
	default:
		return 2
	}
}

// Supports reports why the model cannot do the task, if so.
func (p *Pipeline) Supports(t Task) error {
	kind := t.Kind
	switch {
	case kind.NeedsInput() && p.vae.encoder == nil:
		return fmt.Errorf("the model has no vae_encoder, so it cannot do %s", kind)
	case p.unet.channels == channelsInpaint && kind != job.Inpaint:
		return fmt.Errorf("the model was trained for %s alone", job.Inpaint)
	case p.EditsPhotos() && kind != job.ImageToImage:
		return fmt.Errorf("the model edits photos: it can do %s alone", job.ImageToImage)
	}
	return nil
}

// Scheduler resolves a job's scheduler name; "" is the model's own.
func (p *Pipeline) Scheduler(name string) (scheduler.Scheduler, error) {
	return scheduler.New(name, p.scheduler)
}

// Generate makes the task's images, each 3 x Height x Width about [-1, 1], and
// gives them to each as they come; pixels are valid during the call. The error
// is ErrBadOutput, an error of package onnx, or the cause of ctx.
func (p *Pipeline) Generate(ctx context.Context, t Task, progress func(job.Progress), each func(i int, pixels []float32) error) error {
	stop, err := onnx.NewStop(ctx)
	if err != nil {
		return err
	}
	defer stop.Close()
	defer p.wipe()

	progress(job.Progress{Stage: job.StageText})
	conditions, err := p.conditions(stop, t) //nolint:contextcheck // stop has it
	if err != nil {
		return err
	}
	if t.Kind.NeedsInput() {
		progress(job.Progress{Stage: job.StageVAE})
	}
	rows, err := p.rows(stop, t, conditions)
	if err != nil {
		return err
	}
	defer wipeRows(rows)
	if err := p.denoise(ctx, stop, t, rows, conditions.tokens, progress); err != nil {
		return err
	}
	progress(job.Progress{Stage: job.StageVAE})
	for i, r := range rows {
		pixels, err := p.vae.decode(stop, r.latents, t.Height/p.vae.factor(), t.Width/p.vae.factor(), t.Tile) //nolint:contextcheck // stop has it
		if err != nil {
			return err
		}
		if err = checkPixels(pixels); err == nil {
			err = each(i, pixels)
		}
		clear(pixels) // of tiles they are ours
		if err != nil {
			return err
		}
	}
	return nil
}

// wipe overwrites what the tensors hold of a task: between two jobs they stay in
// memory, for hours when there is little to do.
func (p *Pipeline) wipe() {
	for _, e := range p.text {
		clearBinding(e.binding)
	}
	clearBinding(p.unet.binding)
	for _, c := range []*codec{p.vae.encoder, p.vae.decoder, p.vae.wide} {
		if c != nil {
			clearBinding(c.binding)
		}
	}
}

func clearBinding(b *onnx.Binding) {
	if b != nil {
		b.Clear()
	}
}

func wipeRows(rows []*row) {
	for _, r := range rows {
		clear(r.latents)
		clear(r.prediction)
		clear(r.parts)
		r.state.Wipe()
		for _, x := range r.private {
			clear(x)
		}
		for _, s := range r.samples {
			clear(s.extra) // the photo's latents; the prompts' states may be shared
		}
	}
}

// denoise runs the loop until every row is done.
func (p *Pipeline) denoise(ctx context.Context, stop *onnx.Stop, t Task, rows []*row, tokens int, progress func(job.Progress)) error {
	d := &denoiser{unet: p.unet, height: t.Height / p.vae.factor(), width: t.Width / p.vae.factor(), tokens: tokens, most: t.MaxBatch, drawer: newDrawer()}
	defer d.drawer.close()
	steps, calls := t.Steps, rows[0].calls
	if t.Kind.NeedsInput() && !p.EditsPhotos() {
		steps = job.KeptSteps(t.Steps, t.Strength)
	}
	progress(job.Progress{Stage: job.StageDenoise, Steps: steps})
	active := slices.Clone(rows)
	for {
		active = slices.DeleteFunc(active, (*row).done)
		if len(active) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := d.step(stop, active); err != nil {
			return err
		}
		// Some schedulers call the model more often than there are steps.
		progress(job.Progress{Stage: job.StageDenoise, Step: rows[0].state.Call() * steps / calls, Steps: steps})
	}
}

// checkPixels refuses what no model that works gives: values that are not
// finite, or one colour throughout, as an overflow in half precision makes it.
func checkPixels(pixels []float32) error {
	if !finite(pixels) || constant(pixels) {
		return ErrBadOutput
	}
	return nil
}

func finite(x []float32) bool {
	for _, v := range x {
		if v-v != 0 { // of infinities and NaN it is NaN
			return false
		}
	}
	return true
}

// constant reports whether the picture has one colour, as the 8 bits of a file
// have it.
func constant(pixels []float32) bool {
	level := func(v float32) float64 { return math.RoundToEven(float64(min(max(v*0.5+0.5, 0), 1) * 255)) }
	plane := len(pixels) / 3
	for c := range 3 {
		first := level(pixels[c*plane])
		for _, v := range pixels[c*plane : (c+1)*plane] {
			if level(v) != first {
				return false
			}
		}
	}
	return true
}

// Close frees the model's memory.
func (p *Pipeline) Close() error {
	var errs []error
	for _, e := range p.text {
		errs = append(errs, e.close())
	}
	if p.unet != nil {
		errs = append(errs, p.unet.close())
	}
	if p.vae != nil {
		errs = append(errs, p.vae.close())
	}
	return errors.Join(errs...)
}

// closing closes what was opened before err and returns err.
func closing(err error, c io.Closer) error { return errors.Join(err, c.Close()) }

func clone(x []float32) []float32 { return slices.Clone(x) }
