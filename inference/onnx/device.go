package onnx

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
)

// Device names what a session runs on: "cpu" or "cuda:N".
type Device string

// CPU is the processor.
const CPU Device = "cpu"

// ParseDevice checks a device's name.
func ParseDevice(name string) (Device, error) {
	if name == string(CPU) {
		return CPU, nil
	}
	if n, ok := strings.CutPrefix(name, "cuda:"); ok {
		if i, err := strconv.Atoi(n); err == nil && i >= 0 && strconv.Itoa(i) == n {
			return Device(name), nil
		}
	}
	return "", fmt.Errorf("%w: %q is neither cpu nor cuda:N", ErrDevice, name)
}

// Provider is the name of the execution provider that runs the device.
func (d Device) Provider() string {
	if d == CPU {
		return "CPUExecutionProvider"
	}
	return "CUDAExecutionProvider"
}

// cudaOptions are the options handed to the CUDA provider: this package's own
// for a long-running server of many shapes, under those of the configuration.
// A configured device_id would contradict the device's name, so the name wins.
func (d Device) cudaOptions(configured map[string]string) map[string]string {
	options := map[string]string{
		// A search per new convolution shape costs seconds; the heuristic's
		// choice is about as fast.
		"cudnn_conv_algo_search": "HEURISTIC",
		"arena_extend_strategy":  "kSameAsRequested",
	}
	maps.Copy(options, configured)
	options["device_id"] = strings.TrimPrefix(string(d), "cuda:")
	return options
}

// addProvider adds the device's provider to the options. A device that cannot
// start is an error: falling back to the processor would be ten times slower
// and make other pixels.
func (d Device) addProvider(options *ort.SessionOptions, configured map[string]string) error {
	if d == CPU {
		return nil
	}
	cuda, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return fmt.Errorf("%w: %s: %w: %w", ErrDevice, d, ErrNoCUDA, err)
	}
	defer cuda.Destroy() //nolint:errcheck // frees memory, and cannot fail in a way that matters
	if err := cuda.Update(d.cudaOptions(configured)); err != nil {
		return fmt.Errorf("%w: %s: CUDA provider options: %w", ErrDevice, d, err)
	}
	if err := options.AppendExecutionProviderCUDA(cuda); err != nil {
		return fmt.Errorf("%w: %w: %s: start the CUDA provider: %w", ErrDevice, ErrDeviceAway, d, err)
	}
	return nil
}

// CheckDevice reports whether the device's provider can start.
func CheckDevice(o Options) error {
	so, err := sessionOptions(o)
	if err != nil {
		return err
	}
	if err := so.Destroy(); err != nil {
		return fmt.Errorf("close session options: %w", err)
	}
	return nil
}
