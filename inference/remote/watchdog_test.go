package remote

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imgus/worker/job"
)

func newTestLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }

// The deadline of a phase is what it took before times the factor, within its
// bounds; what was never measured gets the most.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(Deadlines{
			Load: Patience{time.Minute, time.Hour}, Prepare: Patience{time.Second, time.Hour},
			Step: Patience{5 * time.Second, 10 * time.Minute}, VAE: Patience{time.Second, time.Hour},
		})
		j := &job.Job{Model: "m", Width: new(512), Height: new(512)}
		run := func(step time.Duration) {
			w := c.watch(j, func(err error) { t.Error("bitten: ", err) })
			defer w.stop()
			time.Sleep(10 * time.Second)
			w.enter(job.Progress{Stage: job.StageText})
			w.enter(job.Progress{Stage: job.StageDenoise, Steps: 20})
			for i := range 10 {
				time.Sleep(2 * step)
				w.enter(job.Progress{Stage: job.StageDenoise, Step: 2 * (i + 1), Steps: 20}) // every other is told
			}
			w.enter(job.Progress{Stage: job.StageVAE})
			time.Sleep(time.Minute)
			w.enter(job.Progress{Stage: job.StageEncode})
		}
		limit := func(stage job.Stage, width int) time.Duration {
			return c.limit(phase{model: "m", width: width, height: 512, images: 1, stage: stage})
		}
		if got := limit(job.StageDenoise, 512); got != 10*time.Minute {
			t.Errorf("never measured: %s", got)
		}
		run(2 * time.Second)
		for _, tt := range []struct {
			stage job.Stage
			want  time.Duration
		}{
			{job.StageLoad, 100 * time.Second}, {job.StageText, time.Second}, {job.StageDenoise, 20 * time.Second}, {job.StageVAE, 10 * time.Minute},
		} {
			if got := limit(tt.stage, 512); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.stage, got, tt.want)
			}
		}
		if got := limit(job.StageDenoise, 1024); got != 10*time.Minute {
			t.Errorf("another size: %s", got)
		}
		for range 60 {
			run(100 * time.Millisecond)
		}
		if got := limit(job.StageDenoise, 512); got != 5*time.Second {
			t.Errorf("one slow moment is not forgotten: %s", got)
		}
	})
}

func TestWatchdogBites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock(Deadlines{Step: Patience{time.Second, time.Second}})
		bitten := make(chan error, 1)
		w := c.watch(&job.Job{Model: "m"}, func(err error) { bitten <- err })
		w.enter(job.Progress{Stage: job.StageDenoise})
		start := time.Now()
		err := <-bitten
		if h, ok := errors.AsType[*hang](err); !ok || h.stage != job.StageDenoise || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		w.stop()
	})
}
