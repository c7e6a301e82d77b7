package processor

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// Recorder writes records.
type Recorder struct {
	// Prompts lets the record hold the prompts.
	Prompts bool
}

// Done is the record of a job whose images are stored as given.
func (o Recorder) Done(j *job.Job, a job.Attempt, result *inference.Result, images []job.Image) *job.Record {
	r := o.base(j, a, job.Done)
	parameters := result.Parameters
	if o.Prompts {
		parameters.Prompt, parameters.NegativePrompt = j.Prompt, j.NegativePrompt
		parameters.Prompt2, parameters.NegativePrompt2 = j.Prompt2, j.NegativePrompt2
	}
	r.Model, r.Parameters, r.Engine, r.Images = &result.Model, &parameters, &result.Engine, images
	r.Timings = job.Timings{}
	maps.Copy(r.Timings, result.Timings)
	return r
}

// Failed is the record of a job that ended with the error.
func (o Recorder) Failed(j *job.Job, a job.Attempt, reason *job.Error) *job.Record {
	r := o.base(j, a, job.Failed)
	r.Error = &job.Error{Code: reason.Code, Message: reason.Message}
	r.Safety = reason.Safety
	if j.Model != "" {
		r.Model = &job.ModelInfo{Name: j.Model}
	}
	return r
}

func (o Recorder) cancelled(j *job.Job, a job.Attempt) *job.Record {
	return o.base(j, a, job.Cancelled)
}

func (o Recorder) base(j *job.Job, a job.Attempt, state job.State) *job.Record {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return &job.Record{Version: job.Version, ID: j.ID, State: state, Kind: j.Kind, Attempt: &a, CreatedAt: &now}
}

// Image is the record's entry of an image that is stored under the key.
func (o Recorder) Image(key string, image inference.Image) job.Image {
	sum := sha256.Sum256(image.Data)
	return job.Image{
		Key: key, SHA256: hex.EncodeToString(sum[:]), Format: image.Format, Width: image.Width, Height: image.Height,
		Bytes: int64(len(image.Data)), Seed: image.Seed,
	}
}
