package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// State is where a job stands. The first two are of the status alone; the
// others are final and stand in records too.
type State string

// The states of a job.
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
	Erased    State = "erased"
)

// Final reports whether nothing follows the state.
func (s State) Final() bool {
	return s == Done || s == Failed || s == Cancelled || s == Erased
}

// Stage is a part of a job's work, and a key of its timings.
type Stage string

// The stages, in the order in which a job passes them.
const (
	StageQueued  Stage = "queued"
	StageFetch   Stage = "fetch"
	StageLoad    Stage = "load"
	StageDecode  Stage = "decode"
	StageText    Stage = "text"
	StageDenoise Stage = "denoise"
	StageVAE     Stage = "vae"
	StageEncode  Stage = "encode"
	StageStore   Stage = "store"
	StageTotal   Stage = "total"
)

// Stages lists every key of the timings in order.
func Stages() []Stage {
	return []Stage{
		StageQueued, StageFetch, StageLoad, StageDecode, StageText, StageDenoise, StageVAE, StageEncode, StageStore, StageTotal,
	}
}

// Timings holds milliseconds by stage.
type Timings map[Stage]int64

// Progress says what a running job does now. Step counts finished denoising
// steps of Steps; both are zero outside the denoise stage.
type Progress struct {
	Stage Stage `json:"stage"`
	Step  int   `json:"step"`
	Steps int   `json:"steps"`
}

// Attempt is one try at a job. Number counts from one.
type Attempt struct {
	ID     string `json:"id"`
	Number int    `json:"number"`
}

// ModelInfo names the exact model that made an image.
type ModelInfo struct {
	Name   string `json:"name"`
	Family string `json:"family,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// EngineInfo names what ran the model.
type EngineInfo struct {
	Device      string `json:"device"`
	Provider    string `json:"provider"`
	ONNXRuntime string `json:"onnxruntime"`
	Worker      string `json:"worker"`
}

// Parameters are a job's effective values, defaults filled in. The prompts are
// set only where the configuration asks for a full record.
type Parameters struct {
	Prompt         *string `json:"prompt,omitempty"`
	NegativePrompt *string `json:"negative_prompt,omitempty"`

	Prompt2         *string `json:"prompt_2,omitempty"`
	NegativePrompt2 *string `json:"negative_prompt_2,omitempty"`
	PromptSyntax    Syntax  `json:"prompt_syntax"`

	Width              int      `json:"width"`
	Height             int      `json:"height"`
	Steps              int      `json:"steps"`
	GuidanceScale      float64  `json:"guidance_scale"`
	GuidanceRescale    float64  `json:"guidance_rescale"`
	ImageGuidanceScale *float64 `json:"image_guidance_scale,omitempty"`
	Seed               int64    `json:"seed"`
	Images             int      `json:"images"`
	Scheduler          string   `json:"scheduler"`
	Strength           *float64 `json:"strength,omitempty"`
	ClipSkip           int      `json:"clip_skip"`
	// SDXL's alone: [width, height] and [top, left].
	OriginalSize *[2]int `json:"original_size,omitempty"`
	TargetSize   *[2]int `json:"target_size,omitempty"`
	Crop         *[2]int `json:"crop,omitempty"`
	// VAETiling: the VAE worked in tiles, for want of memory, which changes
	// pixels.
	VAETiling bool `json:"vae_tiling,omitempty"`

	Output EffectiveOutput `json:"output"`
}

// EffectiveOutput is how the images were encoded. Quality does not matter to
// PNG.
type EffectiveOutput struct {
	Format  Format `json:"format"`
	Quality int    `json:"quality"`
}

// Image is one published image.
type Image struct {
	Key    string `json:"key"`
	SHA256 string `json:"sha256"`
	Format Format `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Bytes  int64  `json:"bytes"`
	Seed   int64  `json:"seed"`
}

// Record is the outcome of a job. The first one to be stored is the outcome
// for ever; storing it is the commit.
type Record struct {
	Version    int         `json:"version"`
	ID         string      `json:"id"`
	State      State       `json:"state"`
	Kind       Kind        `json:"kind,omitempty"`
	Attempt    *Attempt    `json:"attempt,omitempty"`
	Model      *ModelInfo  `json:"model,omitempty"`
	Parameters *Parameters `json:"parameters,omitempty"`
	Images     []Image     `json:"images,omitempty"`
	Timings    Timings     `json:"timings_ms,omitempty"`
	Engine     *EngineInfo `json:"engine,omitempty"`
	Safety     []Verdict   `json:"safety,omitempty"`
	Error      *Error      `json:"error,omitempty"`
	CreatedAt  *time.Time  `json:"created_at,omitempty"`
	ErasedAt   *time.Time  `json:"erased_at,omitempty"`
}

// DecodeRecord reads a stored record. Unknown fields are kept out, not
// refused: a newer worker may have written it.
func DecodeRecord(data []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("decode record: %w", err)
	}
	if !r.State.Final() {
		return nil, errors.New("decode record: no final state")
	}
	return &r, nil
}

// Deletions tells what went after the commit, and when.
type Deletions struct {
	Version int        `json:"version"`
	ID      string     `json:"id"`
	Deleted []Deletion `json:"deleted"`
}

// Deletion is one thing that is gone: "input" and "mask", the objects; "buffers",
// the worker's own copies in memory.
type Deletion struct {
	What string    `json:"what"`
	At   time.Time `json:"at"`
}

// SubjectEntry is the entry of a job in the index of its subject. It names what
// belongs to the job and stands nowhere else once the payload is gone.
type SubjectEntry struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	// Inputs are the object keys of what the job keeps. What goes with it is
	// named by marks alone, since a key may hold a file's name.
	Inputs []string `json:"inputs,omitempty"`
	Marks  []string `json:"input_marks,omitempty"`
}

// Outcome is what the queue publishes when a job has ended.
type Outcome struct {
	State State
	// Code is empty unless the state is failed.
	Code Code
	// RecordKey is where the record stands.
	RecordKey string
	// Record is the record itself, for logs and metrics.
	Record *Record
}
