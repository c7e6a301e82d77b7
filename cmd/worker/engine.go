package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// engine is what makes images, in this process or in others.
type engine interface {
	inference.Host
	inference.Classifier
	Devices() []string
	Slots() int
	// Capacity is how many jobs the devices that can be used now work on at once.
	Capacity() int
	Close() error
}

// startEngine starts the configured devices: isolated, each in a process of its
// own, or all in this one. model is the folder of the only model that there is;
// "" is the whole catalogue.
func (a *app) startEngine(ctx context.Context, c configs.Config, isolated bool, model string, log *slog.Logger) (engine, error) {
	if isolated {
		return a.openPool(ctx, c, model, log)
	}
	models, err := (&engineConfig{Models: c.Models.Directory, Model: model}).catalogue()
	if err != nil {
		return nil, err
	}
	return openEngine(c, models, log) //nolint:contextcheck // the engine outlives its opening
}

// engineConfig is all that an engine process is told. It holds no secret.
type engineConfig struct {
	Library string `json:"library"`
	// Models is the catalogue's folder; Model is the folder of the only model,
	// if set.
	Models string `json:"models"`
	Model  string `json:"model,omitempty"`
	// Classifier is the folder of the classifier of pictures, if there is one.
	Classifier   string            `json:"classifier,omitempty"`
	Threads      int               `json:"threads"`
	CUDA         map[string]string `json:"cuda,omitempty"`
	MemoryBudget int64             `json:"memory_budget"`
	VAETiling    bool              `json:"vae_tiling"`
	Limits       job.Limits        `json:"limits"`
	Mark         string            `json:"mark,omitempty"`
}

// engineCommand is for worker run alone, and for those who look for a fault.
func (a *app) engineCommand() *cobra.Command {
	var device, library string
	var probe, sameNoise bool
	cmd := &cobra.Command{
		Use:   "engine (--device DEVICE [--same-noise FILE FILE] | --probe)",
		Short: "Be the engine process of a device; started by the worker itself",
		Long: `Runs models on one device for the worker process that started it, over sockets
that it inherited. With --probe it prints the devices of this machine instead,
one JSON document a line; with --same-noise whether two files of a UNet predict
the same.`,
		Hidden: true,
		Args:   args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, files []string) error {
			switch {
			case sameNoise && len(files) != 2, !sameNoise && len(files) > 0:
				return usage("--same-noise takes two files, all else none")
			case probe:
				return a.probe(library)
			case device == "":
				return usage("give --device or --probe; see worker engine --help")
			}
			id, err := onnx.ParseDevice(device)
			if err != nil {
				return err
			}
			if sameNoise {
				return a.compareProcess(cmd.Context(), id, files[0], files[1])
			}
			return a.engineProcess(cmd.Context(), id)
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "`DEVICE`: cpu or cuda:N")
	cmd.Flags().BoolVar(&probe, "probe", false, "list the devices")
	cmd.Flags().BoolVar(&sameNoise, "same-noise", false, "compare two files of a UNet")
	cmd.Flags().StringVar(&library, "library", "", "`FILE` of ONNX Runtime, for --probe")
	return cmd
}

// visible is the device as its process counts it, which sees no other.
func visible(device onnx.Device) onnx.Device {
	if device == onnx.CPU {
		return device
	}
	return "cuda:0"
}

// engineProcess is the child's side of openPool.
func (a *app) engineProcess(ctx context.Context, device onnx.Device) error {
	// The parent leaves out what is below its level, which may change.
	log := slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	device = visible(device)
	child := remote.Child{
		Log:    log,
		Broken: func(err error) bool { return errors.Is(err, local.ErrUnusable) },
		Open: func(config json.RawMessage) (inference.Engine, error) { //nolint:contextcheck // the engine outlives its opening
			var c engineConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return nil, fmt.Errorf("read engine's configuration: %w", err)
			}
			catalogue, err := c.catalogue()
			if err != nil {
				return nil, err
			}
			classifier, err := openClassifier(c.Classifier)
			if err != nil {
				return nil, err
			}
			return local.Open(local.Options{
				Library: c.Library, Devices: []string{string(device)}, Threads: c.Threads, CUDA: c.CUDA, MemoryBudget: c.MemoryBudget,
				Tiling: c.VAETiling, Catalogue: catalogue, Classifier: classifier, Limits: c.Limits, Worker: version, Mark: c.Mark, Log: log,
			})
		},
	}
	return child.Run(ctx, a.stdin)
}

func (c *engineConfig) catalogue() (*models.Catalogue, error) {
	if c.Model == "" {
		return catalogue(c.Models)
	}
	m, err := models.Open(c.Model)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	return models.New("", m), nil
}

// openPool starts an engine process for each configured device.
func (a *app) openPool(ctx context.Context, c configs.Config, model string, log *slog.Logger) (*remote.Pool, error) {
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return nil, err
	}
	config := engineConfig{
		Library: library, Models: c.Models.Directory, Model: model, Classifier: classifierFolder(c.Safety), Threads: c.Engine.Threads, CUDA: c.Engine.CUDA,
		MemoryBudget: int64(c.Engine.MemoryBudget), VAETiling: c.Engine.VAETiling, Limits: limits(c.Limits), Mark: markName(c.Mark),
	}
	pool, err := remote.Open(remote.Options{ //nolint:contextcheck // the engines outlive the opening
		Devices: a.isolatedDevices(ctx, c.Engine.Devices, library, log), Config: config, Environ: a.environ, Log: log,
		Grace: c.Engine.CancelGrace, StartTimeout: c.Engine.StartTimeout, Deadlines: deadlines(c.Engine),
		MemoryLimit: int64(c.Engine.RecycleAbove), BadAfter: c.Engine.BadAfter,
	})
	if exit, ok := errors.AsType[*remote.ExitError](err); ok && (exit.Status == exitConfig || exit.Status == exitUnavailable) {
		return nil, &exitError{status: exit.Status, err: err}
	}
	return pool, err
}

// deadlines are the configured bounds of a job's phases.
func deadlines(c configs.Engine) remote.Deadlines {
	stall := remote.Patience{Most: c.StallTimeout}
	return remote.Deadlines{Load: remote.Patience{Most: c.LoadTimeout}, Prepare: stall, Step: stall, VAE: stall, Encode: stall}
}
