// Package inference is the contract of an engine: a function from a job and
// its input bytes to image bytes and facts. An engine holds no credentials and
// opens no connection.
package inference

import (
	"context"

	"github.com/imgus/worker/job"
)

// Engine makes images. It is safe for concurrent use.
type Engine interface {
	// Generate makes the job's images. It obeys ctx between denoising steps or
	// sooner, and returns only when the device no longer works for the job.
	// The error is a *job.Error, or the cause of ctx.
	Generate(ctx context.Context, r Request) (*Result, error)
}

// Host is an engine that can be looked after: by the supervisor that spreads
// jobs, and by operators.
type Host interface {
	Engine

	// WarmUp loads the model and makes a picture of the size, so that the first
	// job does not wait for it, and what it takes is known.
	WarmUp(ctx context.Context, w WarmUp) error

	// Status says what the engine runs on and what it holds.
	Status(ctx context.Context) (Status, error)
}

// WarmUp names what shall be ready before the first job. Zero sizes are the
// model's own.
type WarmUp struct {
	Model  string `json:"model"`
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	Images int    `json:"images,omitempty"`
	// Pin keeps the model in memory for good.
	Pin bool `json:"pin,omitempty"`
	// Progress is as of a Request.
	Progress func(job.Progress) `json:"-"`
}

// Status is an engine as it stands.
type Status struct {
	Engine job.EngineInfo `json:"engine"`
	// Slots is how many jobs it works on at once, Busy how many it has.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// Models are those in memory, the last used first.
	Models []LoadedModel `json:"models"`
	// BadModels could not be loaded when they were last tried.
	BadModels []BadModel `json:"bad_models,omitempty"`
	// MemoryBudget is what models and the work on jobs may take of all devices,
	// and MemoryUsed what they take, in bytes; a budget of 0 is unbounded.
	MemoryBudget int64 `json:"memory_budget"`
	MemoryUsed   int64 `json:"memory_used"`
	// Devices are what the engine runs on.
	Devices []Device `json:"devices,omitempty"`
}

// Device is what the hardware tells of itself. Zero values are unknown.
type Device struct {
	// Device is "cpu" or "cuda:N".
	Device string `json:"device"`
	// Name is what its maker calls it.
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
	// MemoryTotal and MemoryUsed are in bytes. What is used of a GPU is by all
	// processes; of the machine's memory it is by the engine's process.
	MemoryTotal int64 `json:"memory_total,omitempty"`
	MemoryUsed  int64 `json:"memory_used,omitempty"`
	// MemoryBudget is what the engine may take of it, in bytes, and
	// MemoryBudgetReason says where the number comes from.
	MemoryBudget       int64  `json:"memory_budget"`
	MemoryBudgetReason string `json:"memory_budget_reason,omitempty"`
	// Utilisation is the share of the last moments in which a GPU worked, in
	// percent; Temperature is in degrees Celsius.
	Utilisation *int `json:"utilisation,omitempty"`
	Temperature *int `json:"temperature,omitempty"`
	// Loads and Unloads count models since the engine's start, ModelMemory is
	// what they take now, in bytes.
	Loads       int64 `json:"loads"`
	Unloads     int64 `json:"unloads"`
	ModelMemory int64 `json:"model_memory"`
}

// BadModel is a model that cannot be used.
type BadModel struct {
	Name string `json:"name"`
	// Reason is for operators.
	Reason string `json:"reason"`
}

// LoadedModel is a model in an engine's memory.
type LoadedModel struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Pinned bool   `json:"pinned"`
}

// Request is one job for an engine.
type Request struct {
	// Job is valid by job.Validate; what depends on the model the engine
	// checks.
	Job *job.Job
	// Input and Mask are the bytes of the files that the job names.
	Input, Mask []byte
	// Progress, if not nil, hears what the engine does now. It is called from
	// the engine's own goroutine and must not block.
	Progress func(job.Progress)
}

// Result is what an engine made of a job.
type Result struct {
	Images     []Image
	Model      job.ModelInfo
	Parameters job.Parameters
	// Timings has the engine's stages: load, decode, text, denoise, vae and
	// encode.
	Timings job.Timings
	Engine  job.EngineInfo
}

// Image is one encoded image.
type Image struct {
	Data          []byte
	Format        job.Format
	Width, Height int
	Seed          int64
}
