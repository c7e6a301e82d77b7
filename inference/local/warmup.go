package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/scheduler"
	"github.com/imgus/worker/job"
)

// ParseWarmUp reads an entry of the configuration: MODEL, MODEL@WIDTHxHEIGHT or
// MODEL@WIDTHxHEIGHTxIMAGES.
func ParseWarmUp(entry string) (inference.WarmUp, error) {
	fail := func(why string) (inference.WarmUp, error) {
		return inference.WarmUp{}, fmt.Errorf("warm-up %q: %s; it is written model, model@512x512 or model@512x512x4", entry, why)
	}
	name, sizes, sized := entry, "", false
	if i := strings.LastIndexByte(entry, '@'); i >= 0 {
		name, sizes, sized = entry[:i], entry[i+1:], true
	}
	w := inference.WarmUp{Model: name}
	if name == "" || name != strings.TrimSpace(name) {
		return fail("there is no model's name")
	}
	if !sized {
		return w, nil
	}
	numbers := strings.Split(sizes, "x")
	if len(numbers) != 2 && len(numbers) != 3 {
		return fail("after the @ stand a width and a height")
	}
	hard := job.HardLimits()
	for i, field := range []struct {
		name        string
		into        *int
		least, most int
	}{{"width", &w.Width, job.MinSide, hard.Width}, {"height", &w.Height, job.MinSide, hard.Height}, {"images", &w.Images, 1, hard.Images}}[:len(numbers)] {
		n, err := strconv.Atoi(numbers[i])
		if err != nil || strconv.Itoa(n) != numbers[i] || n < field.least || n > field.most {
			return fail(fmt.Sprintf("the %s is not a number from %d to %d", field.name, field.least, field.most))
		}
		*field.into = n
	}
	return w, nil
}

// WarmUp implements inference.Host, on every device. A device has no job
// meanwhile.
func (e *Engine) WarmUp(ctx context.Context, w inference.WarmUp) error {
	select {
	case e.warming <- struct{}{}: // two that each hold a device would wait for ever
		defer func() { <-e.warming }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var taken []*device
	for range e.devices {
		d, err := e.take(ctx)
		if err != nil {
			for _, d := range taken {
				e.free <- d
			}
			return err
		}
		taken = append(taken, d)
	}
	var group errgroup.Group
	for _, d := range taken {
		group.Go(func() error {
			defer func() { e.free <- d }()
			return e.judge(ctx, e.warmUp(ctx, d, w))
		})
	}
	return group.Wait() //nolint:wrapcheck // it is the job.Error of one of the devices
}

func (e *Engine) warmUp(ctx context.Context, d *device, w inference.WarmUp) error {
	if w.Progress != nil {
		w.Progress(job.Progress{Stage: job.StageLoad})
	}
	l, err := e.load(ctx, d, w.Model)
	if err != nil {
		return err
	}
	if w.Pin {
		d.memory.pin(w.Model)
	}
	j := &job.Job{Version: 1, ID: "warm-up", Kind: warmUpKind(l.pipeline), Model: w.Model, Prompt: new("")}
	if d.measure != nil {
		// Two sizes tell how memory grows with size.
		least := fit(job.MinSide, l.pipeline.Multiple())
		j.Width, j.Height = &least, &least
		if err := e.try(ctx, d, j, w.Progress); err != nil {
			return err
		}
	}
	j.Width, j.Height, j.Images = nil, nil, nil
	if w.Width > 0 && w.Height > 0 {
		j.Width, j.Height = &w.Width, &w.Height
	}
	if w.Images > 0 {
		j.Images = &w.Images
	}
	return e.try(ctx, d, j, w.Progress)
}

// warmUpKind is the first kind of job that the model can do.
func warmUpKind(p pipeline) job.Kind {
	for _, kind := range []job.Kind{job.TextToImage, job.ImageToImage} {
		if p.Supports(diffusion.Task{Kind: kind}) == nil {
			return kind
		}
	}
	return job.Inpaint
}

// try makes the job's pictures in as few steps as the scheduler allows, of a
// gray photo if it needs one.
func (e *Engine) try(ctx context.Context, d *device, j *job.Job, progress func(job.Progress)) error {
	l, err := e.load(ctx, d, j.Model)
	if err != nil {
		return err
	}
	if j.Kind.NeedsInput() {
		j.Input, j.Strength = new("gray"), new(1.0)
	}
	if j.Kind == job.Inpaint {
		j.Mask = new("white")
	}
	limits := e.limits(l)
	if err := j.Validate(limits); err != nil {
		return err //nolint:wrapcheck // a job.Error says all
	}
	for _, steps := range []int{1, 4} {
		j.Steps = &steps
		p, err := resolve(j, l, limits, nil)
		if err != nil {
			return err
		}
		if j.Kind.NeedsInput() {
			p.task.Photo = make([]float32, 3*p.task.Width*p.task.Height)
		}
		if j.Kind == job.Inpaint {
			p.task.Mask = slices.Repeat([]float32{1}, p.task.Width*p.task.Height)
		}
		watch := newStopwatch(progress)
		_, err = e.work(ctx, d, l, p, watch)
		switch {
		case errors.Is(err, scheduler.ErrSteps):
			continue
		case err != nil && !errors.Is(err, diffusion.ErrBadOutput): // so few steps may make no picture
			return err
		}
		e.options.Log.Info("model warmed up", "model", j.Model, "device", d.info.Device, "width", p.task.Width, "height", p.task.Height,
			"images", len(p.task.Seeds), "timings_ms", watch.stop())
		return nil
	}
	return nil
}
