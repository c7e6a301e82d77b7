package local_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/job"
)

// short is a device that is out of memory above a batch, and above a tile; a
// tile of 1 is the whole picture.
func short(most int, tile float64) func(string, diffusion.Task, job.Stage) (int64, error) {
	return func(_ string, t diffusion.Task, stage job.Stage) (int64, error) {
		if stage == job.StageDenoise && t.MaxBatch > most || stage == job.StageVAE && tile < 1 && (t.Tile == 0 || t.Tile > tile) {
			return 0, fmt.Errorf("run unet: %w: no room", onnx.ErrOutOfMemory)
		}
		return 0, nil
	}
}

func TestOutOfMemory(t *testing.T) {
	for _, tt := range []struct {
		name    string
		most    int // samples that the device can take
		tile    float64
		images  int
		tiling  bool
		code    job.Code
		batches []int // that were tried
		tiles   []float64
	}{
		{"enough", 100, 1, 4, false, "", []int{8}, []float64{0}},
		{"half a batch", 4, 1, 4, false, "", []int{8, 4}, []float64{0, 0}},
		{"one sample", 1, 1, 1, false, "", []int{2, 1}, []float64{0, 0}},
		{"too little for half", 3, 1, 4, false, job.OutOfMemory, []int{8, 4}, []float64{0, 0}},
		{"nothing", 0, 1, 1, false, job.OutOfMemory, []int{2, 1}, []float64{0, 0}},
		{"VAE in tiles", 100, 0.75, 1, true, "", []int{2, 1}, []float64{0, 0.75}},
		{"VAE, not allowed", 100, 0.5, 1, false, job.OutOfMemory, []int{2, 1}, []float64{0, 0}},
		{"VAE, too little for tiles", 100, 0.1, 1, true, job.OutOfMemory, []int{2, 1}, []float64{0, 0.75}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, local.Options{Tiling: tt.tiling}, false)
			b.must(t, "lcm")
			b.work, b.tasks = short(tt.most, tt.tile), nil
			change := func(j *job.Job) { j.Images = &tt.images }
			r, err := b.job(t, "sd1", change)
			if tt.code == "" && err != nil || tt.code != "" && job.AsError(err).Code != tt.code {
				t.Fatalf("got %v", err)
			}
			var batches []int
			var tiles []float64
			for _, task := range b.tasks {
				batches, tiles = append(batches, task.MaxBatch), append(tiles, task.Tile)
			}
			if !slices.Equal(batches, tt.batches) || !slices.Equal(tiles, tt.tiles) {
				t.Errorf("tried batches %v and tiles %v", batches, tiles)
			}
			if err == nil && (len(r.Images) != tt.images || r.Parameters.VAETiling != (tiles[len(tiles)-1] > 0)) {
				t.Errorf("%d images, tiling %v", len(r.Images), r.Parameters.VAETiling)
			}
			// Sessions that were out of memory go, and so do models that take room.
			opened, closed := b.names()
			if want := len(batches) - 1; want > 0 && (!slices.Contains(closed, "lcm") || len(opened) != 2+want) {
				t.Errorf("opened %v, closed %v", opened, closed)
			}
			// What was learned holds for the next job.
			if err == nil {
				b.tasks = nil
				b.must(t, "sd1", change)
				if len(b.tasks) != 1 || b.tasks[0].MaxBatch != batches[len(batches)-1] {
					t.Errorf("the next job was tried %d times", len(b.tasks))
				}
			}
			b.work = nil
			b.must(t, "sd1") // the engine goes on
		})
	}
}

// A model that does not fit beside others is loaded once they are gone.
func TestOutOfMemoryWhileLoading(t *testing.T) {
	b := newBench(t, local.Options{}, false)
	b.must(t, "sd1")
	b.loading = func(name string) error {
		if _, closed := b.names(); name == "lcm" && !slices.Contains(closed, "sd1") {
			return onnx.ErrOutOfMemory
		}
		return nil
	}
	b.must(t, "lcm")
	b.loading = func(string) error { return onnx.ErrOutOfMemory }
	if _, err := b.job(t, "turbo"); job.AsError(err).Code != job.OutOfMemory {
		t.Errorf("got %v", err)
	}
	b.loading = nil
	b.must(t, "turbo") // a lack of memory is no broken model
}

func TestLostDevice(t *testing.T) {
	for _, where := range []string{"loading", "running"} {
		t.Run(where, func(t *testing.T) {
			b := newBench(t, local.Options{}, false)
			b.must(t, "lcm")
			lost := fmt.Errorf("%w: CUDA failure 700", onnx.ErrDeviceLost)
			if where == "loading" {
				b.loading = func(string) error { return lost }
			} else {
				b.work = func(string, diffusion.Task, job.Stage) (int64, error) { return 0, lost }
			}
			for range 2 {
				_, err := b.job(t, "sd1")
				if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != job.EngineFailed || !errors.Is(err, local.ErrUnusable) {
					t.Errorf("got %v", err)
				}
			}
			if opened, _ := b.names(); len(opened) != 2 {
				t.Errorf("loaded %v", opened)
			}
			if _, err := b.Status(t.Context()); !errors.Is(err, local.ErrUnusable) {
				t.Errorf("status: %v", err)
			}
			if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "lcm"}); !errors.Is(err, local.ErrUnusable) {
				t.Errorf("warm-up: %v", err)
			}
		})
	}
}

// A cancel while a job waits, loads or runs ends with its cause, and the device
// is free again.
func TestCancelInEveryState(t *testing.T) {
	b := newBench(t, local.Options{}, false)
	for _, where := range []string{"waiting", "loading", "running", "warming"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		b.loading, b.work = nil, nil
		var err error
		switch where {
		case "waiting":
			inside, done := make(chan struct{}), make(chan error)
			b.loading = func(string) error { close(inside); <-ctx.Done(); return nil }
			go func() {
				_, err := b.Generate(context.Background(), inference.Request{Job: small("first")})
				done <- err
			}()
			<-inside
			second := make(chan error)
			go func() {
				_, err := b.Generate(ctx, inference.Request{Job: small("second")})
				second <- err
			}()
			cancel(job.ErrCancelled)
			if err := <-done; err != nil {
				t.Error(err)
			}
			err = <-second
		case "loading":
			b.loading = func(string) error { cancel(job.ErrCancelled); return nil }
			j := small("a")
			j.Model = "turbo"
			_, err = b.Generate(ctx, inference.Request{Job: j})
		case "running":
			b.work = func(string, diffusion.Task, job.Stage) (int64, error) { cancel(job.ErrCancelled); return 0, nil }
			_, err = b.Generate(ctx, inference.Request{Job: small("a")})
		case "warming":
			b.work = func(string, diffusion.Task, job.Stage) (int64, error) { cancel(job.ErrCancelled); return 0, nil }
			err = b.WarmUp(ctx, inference.WarmUp{Model: "sd1"})
		}
		if !errors.Is(err, job.ErrCancelled) || errors.As(err, new(*job.Error)) {
			t.Errorf("%s: %v", where, err)
		}
		if s, err := b.Status(t.Context()); err != nil || s.Busy != 0 {
			t.Errorf("%s: status is %+v, %v", where, s, err)
		}
		cancel(nil)
	}
	b.loading, b.work = nil, nil
	b.must(t, "turbo")
}
