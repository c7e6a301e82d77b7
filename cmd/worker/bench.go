package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/job"
)

func (a *app) benchCommand() *cobra.Command {
	var b bench
	cmd := &cobra.Command{
		Use:   "bench [MODEL[@WIDTHxHEIGHT[xIMAGES]]...]",
		Short: "Measure how fast this machine makes pictures",
		Long: `Measures latency and throughput of the configured devices, without queue or
storage, and prints a row for each case: a model, a size and a number of images,
written as in engine.warm_up. Without arguments it measures the demo model.

With --compare each row says how it differs from an earlier run's (the output of
--json). Only what measured the same is compared: the case, steps, scheduler,
device, number of devices and provider; what is not is named, with the reason.

Latency is of one job on an idle device; throughput is of as many jobs at once
as there are devices. The first job of each case, which loads the model, is not
counted but told.`,
		Example: `  worker bench
  worker bench sd15@512x512 sd15@512x512x4 --steps 20 --json > before.jsonl
  worker bench sd15@512x512 sd15@512x512x4 --steps 20 --compare before.jsonl`,
		RunE: func(cmd *cobra.Command, cases []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			b.app = a
			return b.run(ctx, cases)
		},
	}
	cmd.Flags().IntVar(&b.runs, "runs", 5, "measured jobs a case")
	cmd.Flags().IntVar(&b.steps, "steps", 0, "denoising steps (default: the model's own)")
	cmd.Flags().StringVar(&b.compare, "compare", "", "`FILE` of an earlier run's --json")
	return cmd
}

// bench is one run of the command.
type bench struct {
	app         *app
	runs, steps int
	compare     string

	engine engine
}

// measured is a case and its figures; times are in milliseconds.
type measured struct {
	Case        string  `json:"case"`
	Model       string  `json:"model"`
	Width       int     `json:"width"`
	Height      int     `json:"height"`
	Images      int     `json:"images"`
	Steps       int     `json:"steps"`
	Scheduler   string  `json:"scheduler"`
	Device      string  `json:"device"`
	Devices     int     `json:"devices"`
	Provider    string  `json:"provider"`
	ONNXRuntime string  `json:"onnxruntime"`
	Worker      string  `json:"worker"`
	Runs        int     `json:"runs"`
	Load        int64   `json:"load_ms"`
	Least       float64 `json:"latency_least_ms"`
	Median      float64 `json:"latency_median_ms"`
	Most        float64 `json:"latency_most_ms"`
	// Step is the median time of a denoising step of all images.
	Step float64 `json:"step_ms"`
	// ImagesPerMinute is of all devices together.
	ImagesPerMinute float64 `json:"images_per_minute"`
	// Memory is what the devices' engines hold after the case, in bytes.
	Memory int64 `json:"memory_bytes"`
	// Change is since an earlier run; NotCompared says why there is none.
	Change      *changes `json:"change,omitempty"`
	NotCompared string   `json:"not_compared,omitempty"`
}

func (b *bench) run(ctx context.Context, cases []string) (err error) {
	if b.runs < 1 {
		return usage("--runs must be at least 1")
	}
	if len(cases) == 0 {
		cases = []string{"demo"}
	}
	parsed := make([]inference.WarmUp, len(cases))
	for i, text := range cases {
		if parsed[i], err = local.ParseWarmUp(text); err != nil {
			return usage("%w", err)
		}
	}
	before, err := readEarlier(b.compare)
	if err != nil {
		return err
	}
	c, err := b.app.load()
	if err != nil {
		return err
	}
	if err := b.open(ctx, c); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.engine.Close()) }()
	table := tabwriter.NewWriter(b.app.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if !b.app.json {
		fmt.Fprintln(table, "case\tsteps\tload\tlatency\tleast\tmost\tstep\timages/min\tdevice\t")
	}
	var notes []string // what was not compared
	for i, w := range parsed {
		m, err := b.measure(ctx, cases[i], w)
		if err != nil {
			return fmt.Errorf("measure %s: %w", cases[i], err)
		}
		before.compare(&m)
		if b.app.json {
			if err := b.app.print(m); err != nil {
				return err
			}
			continue
		}
		m.row(table)
		if m.NotCompared != "" {
			notes = append(notes, fmt.Sprintf("%s: %s", m.Case, m.NotCompared))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, left := range before.left() {
		notes = append(notes, left+": only the earlier run has it")
	}
	for _, note := range notes {
		fmt.Fprintln(b.app.stderr, "not compared:", note)
	}
	return nil
}

func (b *bench) open(ctx context.Context, c configs.Config) (err error) {
	c.Log.Level = "error"
	b.engine, err = b.app.startEngine(ctx, c, c.Engine.Isolate, "", slog.New(slog.DiscardHandler))
	return err
}

func (b *bench) measure(ctx context.Context, name string, w inference.WarmUp) (measured, error) {
	first, err := b.job(ctx, w, 0)
	if err != nil {
		return measured{}, err
	}
	p := first.Parameters
	m := measured{
		Case: name, Model: first.Model.Name, Width: p.Width, Height: p.Height, Images: p.Images, Steps: p.Steps, Scheduler: p.Scheduler,
		Device: first.Engine.Device, Devices: b.engine.Slots(), Provider: first.Engine.Provider, ONNXRuntime: first.Engine.ONNXRuntime, Worker: first.Engine.Worker,
		Runs: b.runs, Load: first.Timings[job.StageLoad],
	}
	var latencies, steps []float64
	for i := range b.runs {
		start := time.Now()
		r, err := b.job(ctx, w, i+1)
		if err != nil {
			return m, err
		}
		latencies = append(latencies, milliseconds(time.Since(start)))
		steps = append(steps, float64(r.Timings[job.StageDenoise])/float64(p.Steps))
	}
	slices.Sort(latencies)
	slices.Sort(steps)
	m.Least, m.Median, m.Most, m.Step = latencies[0], latencies[len(latencies)/2], latencies[len(latencies)-1], steps[len(steps)/2]
	if m.ImagesPerMinute, err = b.throughput(ctx, w, p.Images); err != nil {
		return m, err
	}
	if status, err := b.engine.Status(ctx); err == nil {
		m.Memory = status.MemoryUsed
	}
	return m, nil
}

// throughput is the images a minute of as many jobs at once as there are slots.
func (b *bench) throughput(ctx context.Context, w inference.WarmUp, images int) (float64, error) {
	slots := b.engine.Slots()
	if slots > 1 { // each device loads the model
		if _, err := b.together(ctx, w, slots, 1); err != nil {
			return 0, err
		}
	}
	took, err := b.together(ctx, w, slots, b.runs)
	if err != nil {
		return 0, err
	}
	return math.Round(10*float64(slots*b.runs*images)/took.Minutes()) / 10, nil
}

// together does rounds jobs on each of so many slots at once.
func (b *bench) together(ctx context.Context, w inference.WarmUp, slots, rounds int) (time.Duration, error) {
	start := time.Now()
	errs := make(chan error)
	for range slots {
		go func() {
			for i := range rounds {
				if _, err := b.job(ctx, w, i); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var all []error
	for range slots {
		all = append(all, <-errs)
	}
	return time.Since(start), errors.Join(all...)
}

func (b *bench) job(ctx context.Context, w inference.WarmUp, seed int) (*inference.Result, error) {
	prompt := "a photo of a lighthouse at dusk"
	j := &job.Job{
		Version: job.Version, ID: fmt.Sprintf("bench-%d", seed), Kind: job.TextToImage, Model: w.Model, Prompt: &prompt, Seed: new(int64(seed)),
	}
	for _, field := range []struct {
		value int
		into  **int
	}{{w.Width, &j.Width}, {w.Height, &j.Height}, {w.Images, &j.Images}, {b.steps, &j.Steps}} {
		if field.value != 0 {
			*field.into = &field.value
		}
	}
	return b.engine.Generate(ctx, inference.Request{Job: j})
}

// row prints the figures, and how they have changed since an earlier run.
func (m measured) row(table *tabwriter.Writer) {
	fmt.Fprintf(table, "%s\t%d\t%d ms\t%.0f ms\t%.0f ms\t%.0f ms\t%.1f ms\t%.1f\t%s\t\n", m.Case, m.Steps, m.Load, m.Median, m.Least, m.Most, m.Step, m.ImagesPerMinute, m.Device)
	if m.Change != nil {
		m.Change.row(table)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
