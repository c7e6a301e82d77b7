// Package onnx runs ONNX models: the ONNX Runtime library, its sessions and
// its tensors. It alone imports the binding.
package onnx

import (
	"errors"
	"fmt"
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
	// ErrOutOfMemory: the device has too little memory for the run.
	ErrOutOfMemory = errors.New("the device is out of memory")
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

// classify turns the library's error, which carries no code, into one of this
// package's by its text.
func classify(err error) error {
	text := err.Error()
	for _, sign := range []string{
		"Failed to allocate memory", "out of memory", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
		"Available memory of", "std::bad_alloc",
	} {
		if strings.Contains(text, sign) {
			return fmt.Errorf("%w: %w", ErrOutOfMemory, err)
		}
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
