// Package job is the vocabulary that every room shares: the job a backend
// sends, the record the worker leaves behind, states, stages and error codes.
// Its JSON forms are contracts with other programs; fields may be added, never
// renamed.
package job

import (
	"crypto/sha256"
	"encoding/binary"
	"log/slog"
	"time"
	"unicode/utf8"
)

// Version is the version of the job and of the record that this package speaks.
const Version = 1

// TaskType is the asynq task type of a job.
const TaskType = "image:generate"

// MaxPayload is the largest accepted job, in bytes of JSON.
const MaxPayload = 64 << 10

// Kind says what a job makes its images from.
type Kind string

// The kinds of job.
const (
	TextToImage  Kind = "text-to-image"
	ImageToImage Kind = "image-to-image"
	Inpaint      Kind = "inpaint"
)

// Kinds lists every kind.
func Kinds() []Kind { return []Kind{TextToImage, ImageToImage, Inpaint} }

// NeedsInput reports whether the kind starts from a photo.
func (k Kind) NeedsInput() bool { return k == ImageToImage || k == Inpaint }

// Format is an image file format of an output.
type Format string

// The formats of an output.
const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
	WebP Format = "webp"
)

// Formats lists every format.
func Formats() []Format { return []Format{PNG, JPEG, WebP} }

// Extension is the format's file name extension, without the dot.
func (f Format) Extension() string {
	if f == JPEG {
		return "jpg"
	}
	return string(f)
}

// ContentType is the format's media type.
func (f Format) ContentType() string { return "image/" + string(f) }

// Syntax says how a prompt is read.
type Syntax string

// The syntaxes of a prompt.
const (
	// Plain is text, cut to what the text encoder takes, as diffusers does.
	Plain Syntax = "plain"
	// Weighted is the syntax of A1111: (word:1.2), [word], BREAK; a long prompt
	// is encoded in chunks.
	Weighted Syntax = "weighted"
)

// Syntaxes lists every syntax.
func Syntaxes() []Syntax { return []Syntax{Plain, Weighted} }

// Schedulers lists the scheduler names a job may carry. Each means what
// diffusers does when the class of that name is built from the model's own
// scheduler configuration.
func Schedulers() []string {
	return []string{
		"euler", "euler-karras", "euler-a", "ddim", "ddpm", "pndm", "lms", "heun", "dpm2", "dpm2-a",
		"dpmpp-2m", "dpmpp-2m-karras", "dpmpp-2m-sde", "dpmpp-2m-sde-karras", "dpmpp-2s", "unipc", "deis", "lcm",
	}
}

// Job is one order for images, as the backend puts it into the queue. A nil
// pointer is a field that is absent or null, which differs from zero and "".
type Job struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Kind    Kind   `json:"kind"`
	Model   string `json:"model"`

	Prompt         *string `json:"prompt"`
	NegativePrompt *string `json:"negative_prompt,omitempty"`
	// Prompt2 and NegativePrompt2 are for SDXL's second text encoder; absent,
	// it reads the first ones.
	Prompt2         *string `json:"prompt_2,omitempty"`
	NegativePrompt2 *string `json:"negative_prompt_2,omitempty"`
	PromptSyntax    *Syntax `json:"prompt_syntax,omitempty"`

	// Width and Height are in pixels; both or none.
	Width  *int `json:"width,omitempty"`
	Height *int `json:"height,omitempty"`

	Steps              *int     `json:"steps,omitempty"`
	GuidanceScale      *float64 `json:"guidance_scale,omitempty"`
	GuidanceRescale    *float64 `json:"guidance_rescale,omitempty"`
	ImageGuidanceScale *float64 `json:"image_guidance_scale,omitempty"`
	Seed               *int64   `json:"seed,omitempty"`
	Images             *int     `json:"images,omitempty"`
	Scheduler          *string  `json:"scheduler,omitempty"`
	Strength           *float64 `json:"strength,omitempty"`
	ClipSkip           *int     `json:"clip_skip,omitempty"`

	// OriginalSize and TargetSize, [width, height], and Crop, [top, left], are
	// what SDXL is told of the picture.
	OriginalSize *[2]int `json:"original_size,omitempty"`
	TargetSize   *[2]int `json:"target_size,omitempty"`
	Crop         *[2]int `json:"crop,omitempty"`

	// Input and Mask are object keys under inputs/ (files for worker generate).
	Input  *string `json:"input,omitempty"`
	Mask   *string `json:"mask,omitempty"`
	Output *Output `json:"output,omitempty"`

	// Subject is the backend's pseudonym for the user, never a name.
	Subject   *string    `json:"subject,omitempty"`
	CreatedAt *time.Time `json:"created_at,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// KeepInput leaves the input to the retention sweep, for a photo that
	// several jobs share.
	KeepInput bool `json:"keep_input,omitempty"`
}

// Output says how images are encoded.
type Output struct {
	Format  *Format `json:"format,omitempty"`
	Quality *int    `json:"quality,omitempty"`
}

// EffectiveSeed is the seed of the job's first image: its own, or else the
// first four bytes of SHA-256(id), big endian, so that another attempt makes
// the same picture.
func (j *Job) EffectiveSeed() int64 {
	if j.Seed != nil {
		return *j.Seed
	}
	sum := sha256.Sum256([]byte(j.ID))
	return int64(binary.BigEndian.Uint32(sum[:4]))
}

// InputKeys lists the object keys that belong to the job: its photo and mask.
func (j *Job) InputKeys() []string {
	var keys []string
	for _, key := range []*string{j.Input, j.Mask} {
		if key != nil && *key != "" {
			keys = append(keys, *key)
		}
	}
	return keys
}

// LogValue keeps prompts and object keys out of logs.
func (j *Job) LogValue() slog.Value {
	if j == nil {
		return slog.StringValue("none")
	}
	prompt := 0
	if j.Prompt != nil {
		prompt = utf8.RuneCountInString(*j.Prompt)
	}
	return slog.GroupValue(
		slog.String("id", j.ID), slog.String("kind", string(j.Kind)), slog.String("model", j.Model),
		slog.Int("prompt_runes", prompt), slog.Bool("input", j.Input != nil),
	)
}
