package local_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/job"
)

// What a model was given of a photo and its mask is overwritten when it is done,
// and when it fails.
func TestTasksAreOverwritten(t *testing.T) {
	for _, failure := range []error{nil, errors.New("no")} {
		b := newBench(t, local.Options{}, false)
		held := 0
		b.work = func(_ string, task diffusion.Task, _ job.Stage) (int64, error) {
			if slices.Max(task.Photo) > 0 && slices.Max(task.Mask) > 0 {
				held++
			}
			return 0, failure
		}
		j := small("a")
		j.Kind, j.Input, j.Mask = job.Inpaint, new("x"), new("y")
		_, err := b.Generate(t.Context(), inference.Request{Job: j, Input: encodePNG(t, 64, 64), Mask: encodePNG(t, 64, 64)})
		if (err == nil) != (failure == nil) || held == 0 || len(b.tasks) != 1 {
			t.Fatalf("%v, %d tasks, %d times held", err, len(b.tasks), held)
		}
		for _, values := range [][]float32{b.tasks[0].Photo, b.tasks[0].Mask} {
			if slices.Max(values) != 0 || slices.Min(values) != 0 {
				t.Errorf("a photo or a mask is still there, failure %v", failure)
			}
		}
	}
}
