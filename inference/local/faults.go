package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
)

// ErrUnusable: a device is lost, and with it this process; a new one may do. It
// is the cause of the job.Error that the engine then gives.
var ErrUnusable = errors.New("the engine cannot be used any more")

// unusable is ErrUnusable with its reason, or nil.
func (e *Engine) unusable() error {
	if reason := e.lost.Load(); reason != nil {
		return *reason
	}
	return nil
}

func (e *Engine) isLost() bool { return e.lost.Load() != nil }

// judge gives an error the code and the text that a user sees; the cause of ctx
// stays as it is. After a lost device nothing else is tried.
func (e *Engine) judge(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, onnx.ErrDeviceLost) && !errors.Is(err, ErrUnusable):
		lost := fmt.Errorf("%w: %w", ErrUnusable, err)
		if e.lost.CompareAndSwap(nil, &lost) {
			e.options.Log.Error("the device is lost", "error", err)
		}
		err = lost
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return context.Cause(ctx)
	}
	return classify(err)
}

func loadError(err error) error {
	switch {
	case errors.Is(err, onnx.ErrOutOfMemory):
		return job.Wrap(job.OutOfMemory, err, "the device has too little memory for the model")
	case errors.Is(err, onnx.ErrDeviceLost):
		return err
	}
	return job.Wrap(job.EngineFailed, err, "the model could not be loaded; the worker's log says why")
}

// classify gives an error the code and the text that a user sees.
func classify(err error) error {
	var known *job.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, onnx.ErrOutOfMemory):
		return job.Wrap(job.OutOfMemory, err, "the device has too little memory for a job of this size; ask for fewer images or a smaller size")
	case errors.Is(err, diffusion.ErrBadOutput):
		return job.Wrap(job.BadOutput, err, "the model gave no picture for these parameters; try other steps, guidance or another scheduler")
	case errors.Is(err, diffusion.ErrClipSkip):
		return job.Errorf(job.InvalidJob, "%s", diffusion.ErrClipSkip)
	case errors.Is(err, diffusion.ErrPromptTooLong):
		return job.Errorf(job.InvalidJob, "prompt: %s", diffusion.ErrPromptTooLong)
	case errors.Is(err, scheduler.ErrUnsupported), errors.Is(err, scheduler.ErrSteps), errors.Is(err, scheduler.ErrUnknown):
		return job.Errorf(job.InvalidJob, "scheduler, steps: %s", err)
	default:
		return job.Wrap(job.EngineFailed, err, "the engine failed; the worker's log says why")
	}
}
