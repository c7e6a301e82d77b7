package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/job"
)

// generate makes the job's images on the device. What is too large for its
// memory is tried once more with less at a time.
func (e *Engine) generate(ctx context.Context, d *device, r inference.Request, watch *stopwatch) (*inference.Result, error) {
	watch.enter(job.Progress{Stage: job.StageLoad})
	l, err := e.load(ctx, d, r.Job.Model)
	if err != nil {
		return nil, err
	}
	watch.enter(job.Progress{Stage: job.StageDecode})
	p, err := e.prepare(ctx, r, l)
	if err != nil {
		return nil, err
	}
	defer clear(p.task.Photo)
	defer clear(p.task.Mask)
	return e.work(ctx, d, l, p, watch)
}

// work runs a prepared job.
func (e *Engine) work(ctx context.Context, d *device, l *loaded, p prepared, watch *stopwatch) (*inference.Result, error) {
	want := demand{
		pixels: int64(p.task.Width) * int64(p.task.Height), samples: l.pipeline.Samples(p.task) * len(p.task.Seeds), tiling: e.options.Tiling,
	}
	for again := false; ; again = true {
		fits, admitted, err := e.admit(ctx, d, l, want)
		if err != nil {
			return nil, err
		}
		l, p.task.MaxBatch, p.task.Tile = admitted, fits.batch, fits.tile
		result, err := e.run(ctx, d, l, p, watch)
		if !errors.Is(err, onnx.ErrOutOfMemory) {
			return result, err
		}
		// Its sessions may stay broken, so they go in any case.
		e.drop(d, l, "out of memory")
		others := e.dropOthers(d, l.name)
		if smaller := l.footprint.crowded(want, fits, watch.stage == job.StageVAE); again || !smaller && !others {
			return nil, err
		}
		watch.enter(job.Progress{Stage: job.StageLoad})
		if l, err = e.load(ctx, d, l.name); err != nil {
			return nil, err
		}
	}
}

// admit decides how the job is worked on, and makes room for it. A job that
// cannot fit is refused.
func (e *Engine) admit(ctx context.Context, d *device, l *loaded, want demand) (plan, *loaded, error) {
	room := d.memory.room(l.name)
	fits, ok := l.footprint.plan(want, l.held, room)
	if !ok {
		// Its arenas hold what a larger job took: loaded anew it may do.
		if fits, ok = l.footprint.plan(want, working{}, room); !ok {
			return plan{}, nil, errTooLarge("a picture of this size with this model", fits.bytes, room)
		}
		e.drop(d, l, "to shrink")
		var err error
		if l, err = e.load(ctx, d, l.name); err != nil {
			return plan{}, nil, err
		}
	}
	return fits, l, e.makeRoom(d, l.name, fits.bytes)
}

// run runs the pipeline, and learns what memory it takes.
func (e *Engine) run(ctx context.Context, d *device, l *loaded, p prepared, watch *stopwatch) (*inference.Result, error) {
	t := p.task
	p.parameters.VAETiling = t.Tile > 0
	result := &inference.Result{
		Model:      job.ModelInfo{Name: l.model.Manifest.Name, Family: string(l.model.Manifest.Family), Digest: l.digest},
		Parameters: p.parameters, Engine: d.info,
	}
	meter := newMeter(d.measure)
	enter := func(p job.Progress) {
		meter.enter(p.Stage)
		watch.enter(p)
	}
	err := l.pipeline.Generate(ctx, t, enter, func(i int, pixels []float32) error {
		enter(job.Progress{Stage: job.StageEncode})
		defer enter(job.Progress{Stage: job.StageVAE})
		out := p.parameters.Output
		picture := imaging.FromTensor(pixels, t.Width, t.Height)
		data, err := imaging.Encode(picture, string(out.Format), out.Quality)
		imaging.Wipe(picture)
		if err == nil && p.mark != nil {
			plain := data
			data, err = p.mark.Write(plain)
			clear(plain)
		}
		if err != nil {
			return fmt.Errorf("encode image: %w", err)
		}
		result.Images = append(result.Images, inference.Image{Data: data, Format: out.Format, Width: t.Width, Height: t.Height, Seed: t.Seeds[i]})
		return nil
	})
	if err == nil {
		d.memory.learn(l, t, meter.stop())
	}
	return result, err
}
