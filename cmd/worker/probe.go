package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgus/worker/configs"
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
