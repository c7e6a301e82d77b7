package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

func (a *app) modelsImportCommand() *cobra.Command {
	var o models.ImportOptions
	cmd := &cobra.Command{
		Use:   "import DIR",
		Short: "Check a model's folder and copy it into the catalogue",
		Long: `Copies a folder in the layout of optimum into models.directory. Before ONNX
Runtime sees any of it, its files are checked: external data inside the folder,
sizes, versions and operators, no code. Its family is found; the UNet takes a
timestep per sample from then on, if its graph can be edited so and predicts the
same noise; two steps of a small picture are made; and a model.yaml is written
with digests of all files, defaults and limits, which may be edited. The model is
in the catalogue whole or not at all.`,
		Example: `  worker models import ./stable-diffusion-v1-5-onnx --name sd15
  worker models import ./sdxl-turbo-onnx --replace`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if info, err := os.Stat(given[0]); err != nil || !info.IsDir() {
				return usage("%q is no folder", given[0])
			}
			if o.Name != "" && !job.ValidID(o.Name) {
				return usage("--name: 1 to 64 letters, digits, '.', '_' or '-'")
			}
			c, err := a.load()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the program: a model may take long to load
			return a.importModel(ctx, c, given[0], o)
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", "the model's `NAME` in jobs (default: its manifest's, else its folder's)")
	cmd.Flags().BoolVar(&o.Replace, "replace", false, "take the place of a model of the same name")
	return cmd
}

func (a *app) importModel(ctx context.Context, c configs.Config, dir string, o models.ImportOptions) error {
	catalogue, err := catalogue(c.Models.Directory)
	if err != nil {
		return err
	}
	steps := &stepPrinter{app: a}
	o.Progress = steps.show
	o.SameNoise = func(ctx context.Context, batch, perSample string) error { return a.sameNoise(ctx, c, batch, perSample) }
	o.Smoke = func(ctx context.Context, m *models.Model) error { return a.smoke(ctx, c, m) }
	m, err := catalogue.Import(ctx, dir, o)
	steps.done()
	if err != nil {
		return err
	}
	digest, err := m.Verify(ctx)
	if err != nil {
		return err
	}
	row := modelRow{Name: m.Manifest.Name, Family: m.Manifest.Family, License: m.Manifest.License, Place: m.Dir, Digest: digest}
	if a.json {
		return a.print(row)
	}
	fmt.Fprintf(a.stdout, "%s  %s  %s\n", row.Name, row.Family, row.Place)
	return nil
}

// smoke makes a picture of the smallest size in two steps, which is the least
// that shows a model to work: in an engine process, since nobody knows yet what
// the model does to the library that runs it.
func (a *app) smoke(ctx context.Context, c configs.Config, m *models.Model) (err error) {
	quiet := slog.New(slog.DiscardHandler)
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return err
	}
	c.Engine.Devices = a.isolatedDevices(ctx, c.Engine.Devices, library, quiet)[:1]
	engine, err := a.openPool(ctx, c, m.Dir, quiet)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	j := &job.Job{
		Version: 1, ID: "smoke", Kind: job.TextToImage, Model: m.Manifest.Name, Prompt: new("a red apple on a table"),
		Steps: new(2), Width: new(job.MinSide), Height: new(job.MinSide), Seed: new(int64(1)),
	}
	r := inference.Request{Job: j, Progress: func(job.Progress) {}}
	switch m.Manifest.Family {
	case models.Inpaint:
		j.Kind, j.Mask = job.Inpaint, new("mask")
	case models.Pix2Pix, models.SDXLRefiner:
		j.Kind = job.ImageToImage
	default:
	}
	if j.Kind.NeedsInput() {
		j.Input = new("input")
		if m.Manifest.Family != models.Pix2Pix {
			j.Strength = new(1.0)
		}
		if r.Input, err = flatPNG(color.Gray{Y: 128}); err != nil {
			return err
		}
		r.Mask, err = flatPNG(color.White)
		if err != nil {
			return err
		}
	}
	result, err := engine.Generate(ctx, r)
	if err != nil {
		return withCause(err)
	}
	if len(result.Images) != 1 {
		return fmt.Errorf("%d images came instead of one", len(result.Images))
	}
	return nil
}

// withCause adds to an error for users what the operator should see.
func withCause(err error) error {
	if e, ok := errors.AsType[*job.Error](err); ok && e.Err != nil {
		return fmt.Errorf("%w: %w", e, e.Err)
	}
	return err
}

func flatPNG(c color.Color) ([]byte, error) {
	img := image.NewGray(image.Rect(0, 0, job.MinSide, job.MinSide))
	for i := range img.Pix {
		img.Set(i%job.MinSide, i/job.MinSide, c)
	}
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}

// stepPrinter tells on standard error what an import does: a line for each
// step, and on a terminal how far a copy is.
type stepPrinter struct {
	app     *app
	step    string
	percent int64
}

func (p *stepPrinter) show(step string, done, total int64) {
	terminal := isTerminal(p.app.stderr)
	if step != p.step {
		p.done()
		p.step, p.percent = step, -1
		fmt.Fprint(p.app.stderr, step)
		if !terminal {
			fmt.Fprintln(p.app.stderr)
		}
	}
	if !terminal || total == 0 || done*100/total == p.percent {
		return
	}
	p.percent = done * 100 / total
	fmt.Fprintf(p.app.stderr, "\r\x1b[K%s %d%% of %d MiB", step, p.percent, total>>20)
}

func (p *stepPrinter) done() {
	if p.step != "" && isTerminal(p.app.stderr) {
		fmt.Fprintln(p.app.stderr)
	}
	p.step = ""
}
