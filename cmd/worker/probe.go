package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/nvml"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
)

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
	return usable(found, library, log)
}

// usable are the GPUs that work, else the processor. That a GPU is there and is
// not used may be a fault of the installation, and is never silent.
func usable(found []remote.Device, library string, log *slog.Logger) []string {
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
	if len(gpus) > 0 {
		return gpus
	}
	if idle := len(found) - 1; idle > 0 {
		log.Warn("there is a GPU and none can be used; working on the processor, far slower", "gpus", idle, "library", library, "remedy", "worker doctor, docs/gpu.md")
	}
	return []string{string(onnx.CPU)}
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
	shown, facts, closeDriver := gpus()
	defer closeDriver()
	devices := []remote.Device{{Device: string(onnx.CPU), Provider: onnx.CPU.Provider()}}
	for n := range maxGPUs {
		id := onnx.Device(fmt.Sprintf("cuda:%d", n))
		f := facts(n)
		d := remote.Device{Device: string(id), Provider: id.Provider(), Name: f.Name, UUID: f.UUID, Memory: f.Total, Free: f.Free}
		if err := onnx.CheckDevice(onnx.Options{Device: id}); err != nil {
			if n >= shown {
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

// gpus tells how many GPUs the driver shows, and what it knows of the nth that
// CUDA sees.
func gpus() (shown int, facts func(n int) nvml.Facts, done func()) {
	driver, err := nvml.Open()
	if err != nil {
		// As many as the driver lists, or as there are device files in a container.
		files, _ := filepath.Glob("/proc/driver/nvidia/gpus/*") // the patterns are good
		nodes, _ := filepath.Glob("/dev/nvidia[0-9]*")
		return max(len(files), len(nodes)), func(int) nvml.Facts { return nvml.Facts{} }, func() {}
	}
	shown, _ = driver.Count() // 0 where it cannot count
	visible := nvml.VisibleFrom(os.LookupEnv)
	if visible.Devices != nil {
		shown = min(shown, len(strings.Split(*visible.Devices, ",")))
	}
	facts = func(n int) nvml.Facts {
		gpu, err := driver.Find(n, visible)
		if err != nil {
			return nvml.Facts{}
		}
		f, _ := gpu.Facts() // what it does not tell is left out
		return f
	}
	return shown, facts, func() { _ = driver.Close() } // the process ends
}
