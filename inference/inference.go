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
