package testservices

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// ONNXRuntime gives the path of ONNX Runtime's library: $IMGUS_ENGINE_LIBRARY,
// else the one that the scripts fetched into .cache.
func ONNXRuntime(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("IMGUS_ENGINE_LIBRARY"); path != "" {
		return path
	}
	path := binary("", nil, filepath.Join("onnxruntime", "*-cpu-"+runtime.GOARCH, "libonnxruntime.so"))
	if path == "" {
		unavailable(t, "ONNX Runtime is not there")
	}
	return path
}
