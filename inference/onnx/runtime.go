// Package onnx runs ONNX models: the ONNX Runtime library, its sessions and
// its tensors. It alone imports the binding.
package onnx

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// Errors of this package. Match them with errors.Is.
var (
	// ErrLibrary: the ONNX Runtime library cannot be loaded.
	ErrLibrary = errors.New("the ONNX Runtime library cannot be loaded")
	// ErrDevice: the device is not there or its provider cannot start.
	ErrDevice = errors.New("the device cannot be used")
	// ErrNoCUDA: the library is the one for the processor. It is an ErrDevice too.
	ErrNoCUDA = errors.New("the ONNX Runtime library has no CUDA provider, install its GPU build")
	// ErrDeviceAway: its provider cannot start, and may later, for example when
	// the driver is loaded. It is an ErrDevice too.
	ErrDeviceAway = errors.New("it does not start")
	// ErrOutOfMemory: the device has too little memory for the run.
	ErrOutOfMemory = errors.New("the device is out of memory")
	// ErrDeviceLost: the device, or this process's context on it, is broken for
	// good: nothing runs on it until the process is started again.
	ErrDeviceLost = errors.New("the device is lost")
)

// oldest is the first version of ONNX Runtime that answers to the C API of the
// binding.
const oldest = "1.24"

// Runtime is the loaded ONNX Runtime library. ONNX Runtime allows one per
// process.
type Runtime struct {
	library string
	close   sync.Once
}

// Open loads the library at the path.
func Open(library string) (*Runtime, error) {
	if ort.IsInitialized() {
		return nil, fmt.Errorf("%w: it is open already in this process", ErrLibrary)
	}
	// The publisher's builds report their use to Microsoft and keep an id in the
	// temporary folder (onnxruntime/core/platform/telemetry_1ds.cc).
	if err := os.Setenv("ORT_DISABLE_TELEMETRY", "1"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	// CUDA counts the fastest GPU first unless told to count as its driver does,
	// and as nvidia-smi shows them.
	if os.Getenv("CUDA_DEVICE_ORDER") == "" {
		if err := os.Setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID"); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLibrary, err)
		}
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		if strings.Contains(err.Error(), "API base") {
			return nil, fmt.Errorf("%w: %s is older than version %s", ErrLibrary, library, oldest)
		}
		return nil, fmt.Errorf("%w: %w", ErrLibrary, err)
	}
	return &Runtime{library: library}, nil
}

// Version is the library's version.
func (r *Runtime) Version() string { return ort.GetVersion() }

// Close unloads the library. Every session must be closed before.
func (r *Runtime) Close() error {
	var err error
	r.close.Do(func() {
		if err = ort.DestroyEnvironment(); err != nil {
			err = fmt.Errorf("close ONNX Runtime: %w", err)
		}
	})
	return err
}

// Signs of a fault in the library's messages. A CUDA error that is "sticky" in
// NVIDIA's words (CUDA Runtime API, error handling) comes back from every later
// call of the process.
var (
	signsOfMemory = []string{
		"Failed to allocate memory", "out of memory", "CUDA failure 2:", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED",
		"CUDNN_STATUS_ALLOC_FAILED", "Available memory of", "std::bad_alloc",
	}
	signsOfLoss = []string{
		"illegal memory access", "illegal address", "misaligned address", "illegal instruction", "invalid program counter", "hardware stack error",
		"device-side assert", "unspecified launch failure", "uncorrectable ECC error", "GPU is lost", "fallen off the bus",
		"CUDA_ERROR_", "cudaErrorIllegalAddress", "cudaErrorLaunchFailure", "cudaErrorAssert", "cudaErrorECCUncorrectable",
	}
	// codeOfLoss are the numbers of the same errors (cudaError_t), of which ORT
	// writes "CUDA failure 700: ...", and of a driver that went away.
	codeOfLoss = regexp.MustCompile(`(?:CUDA failure|CUDA error) (4|46|100|214|219|220|226|7\d\d|999)\b`)
)

// classify turns the library's error, which carries no code, into one of this
// package's by its text.
func classify(err error) error {
	text := err.Error()
	in := func(sign string) bool { return strings.Contains(text, sign) }
	switch {
	case slices.ContainsFunc(signsOfMemory, in):
		return fmt.Errorf("%w: %w", ErrOutOfMemory, err)
	case slices.ContainsFunc(signsOfLoss, in), codeOfLoss.MatchString(text):
		return fmt.Errorf("%w: %w", ErrDeviceLost, err)
	}
	return err
}

// Providers lists the execution providers that this library can start, by
// ONNX Runtime's names.
func (r *Runtime) Providers() []string {
	providers := []string{CPU.Provider()}
	if cuda, err := ort.NewCUDAProviderOptions(); err == nil {
		_ = cuda.Destroy()
		providers = append(providers, Device("cuda:0").Provider())
	}
	return providers
}
