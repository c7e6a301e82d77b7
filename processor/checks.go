package processor

import (
	"context"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// Guard checks what a job asks for and what it gives. Each check returns what it
// found, if it is run at all. Its error is a *job.Error, with the code refused
// where the job shall not go on, or the cause of ctx.
type Guard interface {
	Prompt(j *job.Job) ([]job.Verdict, error)
	Input(ctx context.Context, photo []byte) ([]job.Verdict, error)
	Output(ctx context.Context, images []inference.Image) ([]job.Verdict, error)
}

// Checks are those of one attempt. Without a Guard all is well.
type Checks struct {
	Guard Guard
	// Verdicts are what was found so far.
	Verdicts []job.Verdict
}

// Prompt comes before anything that costs.
func (c *Checks) Prompt(j *job.Job) error {
	if c.Guard == nil {
		return nil
	}
	return c.add(c.Guard.Prompt(j))
}

// Input comes before the photo is worked on.
func (c *Checks) Input(ctx context.Context, photo []byte) error {
	if c.Guard == nil {
		return nil
	}
	return c.add(c.Guard.Input(ctx, photo))
}

// Output comes before a picture is stored.
func (c *Checks) Output(ctx context.Context, images []inference.Image) error {
	if c.Guard == nil {
		return nil
	}
	return c.add(c.Guard.Output(ctx, images))
}

// add keeps the verdicts. A refusal takes all of them along, for the record.
func (c *Checks) add(verdicts []job.Verdict, err error) error {
	c.Verdicts = append(c.Verdicts, verdicts...)
	if err == nil || len(verdicts) == 0 {
		return err
	}
	refusal := *job.AsError(err)
	refusal.Safety = c.Verdicts
	return &refusal
}
