package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// three weigh three MiB each, more than their files.
var three = map[string]int64{"sd1": 3 * mib, "lcm": 3 * mib, "turbo": 3 * mib, "sd2v": 3 * mib}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 7 * mib}, true)
	b.weights = three
	for _, name := range []string{"sd1", "lcm", "sd1", "turbo", "sd1", "lcm"} {
		b.must(t, name)
	}
	opened, closed := b.names()
	if diff := cmp.Diff([]string{"sd1", "lcm", "turbo", "lcm"}, opened); diff != "" {
		t.Error("loaded:", diff)
	}
	if diff := cmp.Diff([]string{"lcm", "turbo"}, closed); diff != "" {
		t.Error("unloaded:", diff)
	}
	want := []inference.LoadedModel{{Name: "lcm", Bytes: 3 * mib}, {Name: "sd1", Bytes: 3 * mib}}
	if diff := cmp.Diff(want, b.loaded(t)); diff != "" {
		t.Error(diff)
	}
	if s, _ := b.Status(t.Context()); s.MemoryUsed != 6*mib || s.MemoryBudget != 7*mib || s.Slots != 1 || s.Busy != 0 {
		t.Errorf("status is %+v", s)
	} else if d := s.Devices[0]; d.Loads != 4 || d.Unloads != 2 || d.ModelMemory != 6*mib {
		t.Errorf("the device is %+v", d)
	}
}

func TestPinnedModelsStay(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 7 * mib}, true)
	b.weights = three
	if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Pin: true}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lcm", "turbo", "lcm"} {
		b.must(t, name)
	}
	want := []inference.LoadedModel{{Name: "lcm", Bytes: 3 * mib}, {Name: "sd1", Bytes: 3 * mib, Pinned: true}}
	if diff := cmp.Diff(want, b.loaded(t)); diff != "" {
		t.Error(diff)
	}
	if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "turbo", Pin: true}); err != nil {
		t.Fatal(err)
	}
	_, err := b.job(t, "lcm")
	if e := job.AsError(err); e.Code != job.OutOfMemory || !strings.Contains(e.Message, "the model needs 3.0 MiB and the device may use 1.0 MiB") {
		t.Errorf("got %v", err)
	}
	opened, _ := b.names()
	b.must(t, "sd1")
	if now, _ := b.names(); len(now) != len(opened) {
		t.Error("a pinned model was dropped")
	}
}

func TestModelsThatCannotFit(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 2 * mib}, true)
	b.weights = three // of files of 1.7 MiB: known once it is loaded
	for i := range 3 {
		_, err := b.job(t, "sd1")
		if e := job.AsError(err); e.Code != job.OutOfMemory || !strings.Contains(e.Message, "needs 3.0 MiB and the device may use 2.0 MiB") {
			t.Errorf("got %v", err)
		}
		if opened, _ := b.names(); len(opened) != 1 {
			t.Errorf("try %d: it was loaded though it was known that it cannot fit", i)
		}
	}
	if err := newBench(t, local.Options{MemoryBudget: 1 * mib}, false).WarmUp(t.Context(), inference.WarmUp{Model: "sd1"}); job.AsError(err).Code != job.OutOfMemory {
		t.Errorf("by its files: %v", err)
	}
}

// A job takes by pixels what the warm-up measured.
func TestJobsThatCannotFit(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 20 * mib}, true)
	b.weights = three
	b.work = byPixels
	sized := func(side, images int) func(*job.Job) {
		return func(j *job.Job) { j.Width, j.Height, j.Images = &side, &side, &images }
	}
	if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Width: 128, Height: 128}); err != nil {
		t.Fatal(err)
	}
	before := len(b.tasks)
	_, err := b.job(t, "sd1", sized(1024, 1))
	if e := job.AsError(err); e.Code != job.OutOfMemory || !strings.Contains(e.Message, "needs 60.6 MiB and the device may use 20.0 MiB") {
		t.Errorf("got %v", err)
	}
	if len(b.tasks) != before {
		t.Error("it was tried")
	}
	b.must(t, "sd1", sized(128, 8))
	// 8 images are 16 samples of a quarter MiB; what fits beside weights and VAE
	// is tried.
	if got := b.tasks[len(b.tasks)-1].MaxBatch; got != 16 {
		t.Errorf("a batch of %d", got)
	}
	b.must(t, "sd1", sized(256, 8))
	if got := b.tasks[len(b.tasks)-1].MaxBatch; got != 8 {
		t.Errorf("a batch of %d", got)
	}
	if got := b.loaded(t)[0].Bytes; got != 3*mib+(8*256*256*16+256*256*32) {
		t.Errorf("it takes %d bytes", got)
	}
}

// byPixels takes 16 bytes for each pixel of the UNet's batch, and 32 for each of
// a tile.
func byPixels(_ string, t diffusion.Task, stage job.Stage) (int64, error) {
	pixels := int64(t.Width) * int64(t.Height)
	switch stage {
	case job.StageDenoise:
		return 16 * pixels * int64(t.MaxBatch), nil
	case job.StageVAE:
		if t.Tile > 0 {
			pixels = int64(float64(pixels) * t.Tile * t.Tile)
		}
		return 32 * pixels, nil
	default:
		return 0, nil
	}
}

// Where config allows it, a picture whose decoding would not fit is decoded in
// tiles, and the record says so.
func TestTilesWhereWholeDoesNotFit(t *testing.T) {
	for _, tiling := range []bool{false, true} {
		b := newBench(t, local.Options{MemoryBudget: 30 * mib, Tiling: tiling}, true)
		b.weights, b.work = three, func(m string, task diffusion.Task, stage job.Stage) (int64, error) {
			n, err := byPixels(m, task, stage)
			if stage == job.StageVAE {
				n *= 8
			}
			return n, err
		}
		if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Width: 128, Height: 128}); err != nil {
			t.Fatal(err)
		}
		r, err := b.job(t, "sd1", func(j *job.Job) { j.Width, j.Height = new(512), new(512) })
		if !tiling {
			if job.AsError(err).Code != job.OutOfMemory {
				t.Errorf("got %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := b.tasks[len(b.tasks)-1]; got.Tile == 0 || !r.Parameters.VAETiling {
			t.Errorf("tiles of %v, record says %v", got.Tile, r.Parameters.VAETiling)
		}
	}
}

// What one job left in the arenas is given back when a job of another kind needs
// the room.
func TestModelsShrink(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 20 * mib}, true)
	b.weights, b.work = three, func(_ string, task diffusion.Task, stage job.Stage) (int64, error) {
		switch {
		case stage == job.StageDenoise:
			return int64(task.MaxBatch) * mib, nil
		case stage == job.StageVAE && task.Width == 128: // more than is foreseen
			return 10 * mib, nil
		}
		return mib, nil
	}
	eight := func(j *job.Job) { j.Images = new(7) }
	b.must(t, "sd1", eight)
	b.must(t, "sd1", func(j *job.Job) { j.Width = new(128) })
	b.must(t, "sd1", eight)
	if opened, closed := b.names(); len(opened) != 2 || len(closed) != 1 {
		t.Errorf("opened %v, closed %v", opened, closed)
	}
	if s, _ := b.Status(t.Context()); s.MemoryUsed > s.MemoryBudget {
		t.Errorf("status is %+v", s)
	}
}

func TestLoadsOnce(t *testing.T) {
	b := newBench(t, local.Options{}, false)
	b.loading = func(string) error { time.Sleep(10 * time.Millisecond); return nil }
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			var err error
			if i%2 == 0 {
				err = b.WarmUp(t.Context(), inference.WarmUp{Model: "sd1"})
			} else {
				_, err = b.job(t, "sd1")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if opened, _ := b.names(); len(opened) != 1 {
		t.Errorf("loaded %d times", len(opened))
	}
}

// No model goes while it runs; the fake fails if so.
func TestManyJobsOfManyModels(t *testing.T) {
	b := newBench(t, local.Options{MemoryBudget: 7 * mib, Devices: []string{"cpu", "cpu"}}, false)
	names := []string{"sd1", "lcm", "turbo", "sd2v", "pix2pix", "inpaint9"}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for k := range 12 {
				if _, err := b.job(t, names[(i*5+k)%len(names)]); err != nil {
					t.Error(err)
				}
				if s, err := b.Status(t.Context()); err != nil || s.MemoryUsed > s.MemoryBudget || s.Busy > 2 {
					t.Errorf("status is %+v, %v", s, err)
				}
			}
		})
	}
	group.Wait()
}

func TestBrokenModelIsNotTriedAgain(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"good", "bad"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(testModels+"/sd1")); err != nil {
			t.Fatal(err)
		}
	}
	b := newBench(t, local.Options{Catalogue: models.New(dir)}, false)
	b.loading = func(name string) error {
		if name == "bad" {
			return errors.New("invalid graph")
		}
		return nil
	}
	for range 3 {
		if _, err := b.job(t, "bad"); job.AsError(err).Code != job.EngineFailed {
			t.Errorf("got %v", err)
		}
		b.must(t, "good")
	}
	if opened, _ := b.names(); !slices.Equal(opened, []string{"bad", "good"}) {
		t.Errorf("loaded %v", opened)
	}
	bad := func() []inference.BadModel {
		s, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.BadModels
	}
	if got := bad(); !slices.Equal(got, []inference.BadModel{{Name: "bad", Reason: "invalid graph"}}) {
		t.Errorf("bad models are %v", got)
	}
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "bad/unet/config.json"), later, later); err != nil {
		t.Fatal(err)
	}
	b.loading = nil
	b.must(t, "bad")
	if got := bad(); len(got) > 0 {
		t.Errorf("bad models are %v", got)
	}
}

func TestGibibytes(t *testing.T) {
	for bytes, want := range map[int64]string{5476083302: "5.1 GiB", 4 << 30: "4.0 GiB", 3 * mib: "3.0 MiB", 1024: "1.0 KiB"} {
		if got := local.Gibibytes(bytes); got != want {
			t.Errorf("%d is %s", bytes, got)
		}
	}
}
