package local_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/job"
)

func TestParseWarmUp(t *testing.T) {
	for entry, want := range map[string]inference.WarmUp{
		"demo":              {Model: "demo"},
		"sd-1.5@512x768":    {Model: "sd-1.5", Width: 512, Height: 768},
		"a@b@64x2048x8":     {Model: "a@b", Width: 64, Height: 2048, Images: 8},
		"stable@512x512x01": {}, "@512x512": {}, "": {}, " demo": {}, "demo@": {}, "demo@512": {}, "demo@512x": {}, "demo@512x512x": {},
		"demo@512x512x4x4": {}, "demo@63x512": {}, "demo@512x4096": {}, "demo@512x512x9": {}, "demo@512x512x0": {}, "demo@-512x512": {}, "demo@+512x512": {},
		"demo@512X512": {}, "demo@ 512x512": {},
	} {
		got, err := local.ParseWarmUp(entry)
		if bad := want.Model == ""; bad != (err != nil) {
			t.Errorf("%q: %v", entry, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", entry, diff)
		}
	}
}

func FuzzParseWarmUp(f *testing.F) {
	for _, entry := range []string{"demo", "demo@512x512", "demo@512x512x4", "a@b@64x64", "@"} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		w, err := local.ParseWarmUp(entry)
		if err != nil {
			return
		}
		again := w.Model
		if w.Width > 0 {
			again += fmt.Sprintf("@%dx%d", w.Width, w.Height)
		}
		if w.Images > 0 {
			again += fmt.Sprintf("x%d", w.Images)
		}
		if again != entry {
			t.Errorf("%q is read as %q", entry, again)
		}
	})
}

func TestWarmUp(t *testing.T) {
	b := newBench(t, local.Options{}, true)
	if err := b.WarmUp(t.Context(), inference.WarmUp{Model: "sd1", Width: 256, Height: 128, Images: 3}); err != nil {
		t.Fatal(err)
	}
	// Where memory is measured, at two sizes: it tells how it grows.
	var sizes [][3]int
	for _, task := range b.tasks {
		sizes = append(sizes, [3]int{task.Width, task.Height, len(task.Seeds)})
		if task.Steps != 1 {
			t.Errorf("%d steps", task.Steps)
		}
	}
	if diff := cmp.Diff([][3]int{{64, 64, 1}, {256, 128, 3}}, sizes); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		w    inference.WarmUp
		code job.Code
		says string
	}{
		{inference.WarmUp{Model: "nothing"}, job.UnknownModel, "nothing"},
		{inference.WarmUp{Model: "sd1", Width: 100, Height: 64}, job.InvalidJob, "multiple of 16"},
		{inference.WarmUp{Model: "sd1", Width: 4096, Height: 64}, job.InvalidJob, "width"},
	} {
		if err := b.WarmUp(t.Context(), tt.w); job.AsError(err).Code != tt.code || !strings.Contains(err.Error(), tt.says) && tt.code != job.UnknownModel {
			t.Errorf("%+v: %v", tt.w, err)
		}
	}
}

// Every device gets the model.
func TestWarmUpOfSeveralDevices(t *testing.T) {
	b := newBench(t, local.Options{Devices: []string{"cpu", "cpu", "cpu"}}, false)
	done := make(chan error)
	for _, name := range []string{"sd1", "lcm"} {
		go func() { done <- b.WarmUp(t.Context(), inference.WarmUp{Model: name}) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if opened, _ := b.names(); len(opened) != 6 || len(b.loaded(t)) != 6 {
		t.Errorf("loaded %v", opened)
	}
}

// What needs a photo is warmed up with a gray one.
func TestWarmUpOfEveryFamily(t *testing.T) {
	e := open(t)
	for _, name := range []string{"sd1", "sd2v", "sdxl", "lcm", "turbo", "pix2pix", "inpaint9"} {
		if err := e.WarmUp(t.Context(), inference.WarmUp{Model: name, Width: 64, Height: 96, Images: 2}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := e.Status(t.Context())
	if err != nil || len(s.Models) != 7 || s.Engine.Device != "cpu" || len(s.Devices) != 1 || s.MemoryBudget <= 0 || s.MemoryBudget >= s.Devices[0].MemoryTotal {
		t.Errorf("status is %+v, %v", s, err)
	}
}
