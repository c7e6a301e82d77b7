package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// engineConfig is all that an engine process is told. It holds no secret.
type engineConfig struct {
	Library string `json:"library"`
	// Models is the catalogue's folder; Model is the folder of the only model,
	// if set.
	Models       string            `json:"models"`
	Model        string            `json:"model,omitempty"`
	Threads      int               `json:"threads"`
	CUDA         map[string]string `json:"cuda,omitempty"`
	MemoryBudget int64             `json:"memory_budget"`
	Limits       job.Limits        `json:"limits"`
	LogLevel     string            `json:"log_level"`
}

// engineCommand is for worker run alone, and for those who look for a fault.
func (a *app) engineCommand() *cobra.Command {
	var device, library string
	var probe bool
	cmd := &cobra.Command{
		Use:   "engine (--device DEVICE | --probe)",
		Short: "Be the engine process of a device; started by the worker itself",
		Long: `Runs models on one device for the worker process that started it, over sockets
that it inherited. With --probe it prints the devices of this machine instead,
one JSON document a line.`,
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case probe:
				return a.probe(library)
			case device == "":
				return usage("give --device or --probe; see worker engine --help")
			}
			id, err := onnx.ParseDevice(device)
			if err != nil {
				return err
			}
			return a.engineProcess(cmd.Context(), id)
		},
	}
	cmd.Flags().StringVar(&device, "device", "", "`DEVICE`: cpu or cuda:N")
	cmd.Flags().BoolVar(&probe, "probe", false, "list the devices")
	cmd.Flags().StringVar(&library, "library", "", "`FILE` of ONNX Runtime, for --probe")
	return cmd
}

// engineProcess is the child's side of openPool.
func (a *app) engineProcess(ctx context.Context, device onnx.Device) error {
	level := new(slog.LevelVar)
	log := slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	if device != onnx.CPU {
		device = "cuda:0" // the only one that it sees
	}
	child := remote.Child{
		Log:    log,
		Broken: func(err error) bool { return errors.Is(err, local.ErrUnusable) },
		Open: func(config json.RawMessage) (inference.Engine, error) {
			var c engineConfig
			if err := json.Unmarshal(config, &c); err != nil {
				return nil, fmt.Errorf("read engine's configuration: %w", err)
			}
			if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
				return nil, fmt.Errorf("read engine's configuration: %w", err)
			}
			catalogue, err := c.catalogue()
			if err != nil {
				return nil, err
			}
			return local.Open(local.Options{
				Library: c.Library, Devices: []string{string(device)}, Threads: c.Threads, CUDA: c.CUDA, MemoryBudget: c.MemoryBudget,
				Catalogue: catalogue, Limits: c.Limits, Worker: version, Log: log,
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

// openPool starts an engine process for each configured device. model is the
// folder of the only model that they serve; "" is the whole catalogue.
func (a *app) openPool(ctx context.Context, c configs.Config, model string, log *slog.Logger) (*remote.Pool, error) {
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return nil, err
	}
	config := engineConfig{
		Library: library, Models: c.Models.Directory, Model: model, Threads: c.Engine.Threads, CUDA: c.Engine.CUDA,
		MemoryBudget: int64(c.Engine.MemoryBudget), Limits: limits(c.Limits), LogLevel: c.Log.Level,
	}
	pool, err := remote.Open(remote.Options{ //nolint:contextcheck // the engines outlive the opening
		Devices: a.isolatedDevices(ctx, c.Engine.Devices, library, log), Config: config, Environ: a.environ, Log: log,
	})
	if exit, ok := errors.AsType[*remote.ExitError](err); ok && exit.Status == exitConfig {
		return nil, &exitError{status: exitConfig, err: err}
	}
	return pool, err
}

// isolatedDevices resolves "auto" without touching a driver in this process:
// every GPU that works, else the processor.
func (a *app) isolatedDevices(ctx context.Context, configured configs.Devices, library string, log *slog.Logger) []string {
	if !configured.Auto() {
		return configured
	}
	found, err := remote.Probe(ctx, remote.Options{Args: []string{"engine", "--probe", "--library", library}, Environ: a.environ, Log: log})
	if err != nil {
		log.Warn("the devices cannot be listed; using the processor", "error", err)
	}
	var gpus []string
	for _, d := range found {
		switch {
		case d.Device == string(onnx.CPU):
		case d.Error != "":
			log.Warn("a GPU cannot be used", "device", d.Device, "name", d.Name, "error", d.Error)
		default:
			gpus = append(gpus, d.Device)
		}
	}
	if len(gpus) == 0 {
		return []string{string(onnx.CPU)}
	}
	return gpus
}

// maxGPUs bounds the search for GPUs.
const maxGPUs = 64

// probe prints the devices. A GPU that the driver shows and that cannot be used
// is printed with the reason.
func (a *app) probe(library string) error {
	library, err := findLibrary(library)
	if err != nil {
		return err
	}
	runtime, err := onnx.Open(library)
	if err != nil {
		return err
	}
	devices := []remote.Device{{Device: string(onnx.CPU), Provider: onnx.CPU.Provider()}}
	names := gpuNames()
	for n := range maxGPUs {
		id := onnx.Device(fmt.Sprintf("cuda:%d", n))
		d := remote.Device{Device: string(id), Provider: id.Provider(), Name: nameOf(names)}
		if err := onnx.CheckDevice(onnx.Options{Device: id}); err != nil {
			if n >= len(names) {
				break
			}
			d.Error = err.Error()
		}
		devices = append(devices, d)
	}
	for _, d := range devices {
		if err := a.print(d); err != nil {
			return err
		}
	}
	return runtime.Close()
}

// gpuNames are the names of the GPUs, as NVIDIA's driver has them.
func gpuNames() []string {
	files, _ := filepath.Glob("/proc/driver/nvidia/gpus/*/information") // the pattern is good
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		name := ""
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "Model:"); ok {
				name = strings.TrimSpace(value)
			}
		}
		names = append(names, name)
	}
	return names
}

// nameOf is the GPUs' name if they all have the same: CUDA counts them in
// another order than the driver's files.
func nameOf(names []string) string {
	for _, name := range names {
		if name != names[0] {
			return ""
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[0]
}
