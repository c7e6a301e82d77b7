package onnx_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/models/onnxfile"
)

const testModels = "../../testdata/models"

// open loads the library, of which there is one per process: tests that use it
// do not run in parallel.
func open(t testing.TB) *onnx.Runtime {
	t.Helper()
	rt, err := onnx.Open(testservices.ONNXRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

func load(t testing.TB, rt *onnx.Runtime, source onnx.Source, edit func(*onnxfile.Model) (bool, error)) *onnx.Session {
	t.Helper()
	s, err := rt.Load(source, onnx.Options{Device: onnx.CPU}, edit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func stop(t testing.TB, ctx context.Context) *onnx.Stop {
	t.Helper()
	s, err := onnx.NewStop(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestParseDevice(t *testing.T) {
	for name, good := range map[string]bool{
		"cpu": true, "cuda:0": true, "cuda:12": true,
		"": false, "gpu": false, "cuda": false, "cuda:": false, "cuda:-1": false, "cuda:01": false, "CUDA:0": false, "cuda:x": false,
	} {
		d, err := onnx.ParseDevice(name)
		if good != (err == nil) || !good && !errors.Is(err, onnx.ErrDevice) || good && string(d) != name {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCUDAOptions(t *testing.T) {
	got := onnx.CUDAOptions("cuda:3", map[string]string{"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0", "device_id": "7"})
	want := map[string]string{
		"device_id": "3", "cudnn_conv_algo_search": "EXHAUSTIVE", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Without a GPU a CUDA device is an error and never the processor.
func TestCUDADoesNotFallBack(t *testing.T) {
	if _, err := os.Stat("/proc/driver/nvidia"); err == nil {
		t.Skip("this machine has an NVIDIA GPU")
	}
	rt := open(t)
	o := onnx.Options{Device: "cuda:0"}
	if err := onnx.CheckDevice(o); !errors.Is(err, onnx.ErrDevice) || !errors.Is(err, onnx.ErrNoCUDA) || errors.Is(err, onnx.ErrDeviceAway) {
		t.Errorf("check: %v", err)
	}
	if _, err := rt.Load(onnx.Source{Path: filepath.Join(testModels, "sd1/vae_decoder/model.onnx")}, o, nil); !errors.Is(err, onnx.ErrDevice) {
		t.Errorf("load: %v", err)
	}
}

func TestLibrary(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/nowhere/libonnxruntime.so", text} {
		if _, err := onnx.Open(path); !errors.Is(err, onnx.ErrLibrary) {
			t.Errorf("%s: %v", path, err)
		}
	}
	rt := open(t)
	if rt.Version() == "" || rt.Providers()[0] != "CPUExecutionProvider" {
		t.Errorf("version %q, providers %v", rt.Version(), rt.Providers())
	}
	if _, err := onnx.Open(testservices.ONNXRuntime(t)); !errors.Is(err, onnx.ErrLibrary) {
		t.Errorf("opened twice: %v", err)
	}
}

// The texts are ONNX Runtime's own, of its issues and its source.
func TestClassify(t *testing.T) {
	for text, want := range map[string]error{
		"Failed to allocate memory for requested buffer of size 1073741824":                                                          onnx.ErrOutOfMemory,
		"CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; file=cuda_allocator.cc ; line=54 ; expr=cudaMalloc((void**)&p, size);": onnx.ErrOutOfMemory,
		"CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED":                                                                               onnx.ErrOutOfMemory,
		"CUDA_ERROR_OUT_OF_MEMORY: out of memory":                                                                                    onnx.ErrOutOfMemory,
		"bfc_arena.cc:359: Available memory of 1024 is smaller than requested bytes of 2048":                                         onnx.ErrOutOfMemory,
		"std::bad_alloc": onnx.ErrOutOfMemory,
		"CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; hostname=a ; file=gpu_data_transfer.cc": onnx.ErrDeviceLost,
		"CUDA failure 710: device-side assert triggered":                                                              onnx.ErrDeviceLost,
		"CUDA failure 719: unspecified launch failure":                                                                onnx.ErrDeviceLost,
		"CUDA failure 702: the launch timed out and was terminated":                                                   onnx.ErrDeviceLost,
		"CUDA failure 214: uncorrectable ECC error encountered":                                                       onnx.ErrDeviceLost,
		"CUDA failure 100: no CUDA-capable device is detected":                                                        onnx.ErrDeviceLost,
		"CUDA failure 46: all CUDA-capable devices are busy or unavailable":                                           onnx.ErrDeviceLost,
		"CUDA error cudaErrorIllegalAddress":                                                                          onnx.ErrDeviceLost,
		"CUDA_ERROR_LAUNCH_FAILED":                                                                                    onnx.ErrDeviceLost,
		"CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED: unspecified launch failure":                               onnx.ErrDeviceLost,
		"invalid expand shape":                                                                                        nil,
		"CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED":                                                              nil,
		"CUDA failure 1: invalid argument":                                                                            nil,
		"Non-zero status code returned while running Conv node. Name:'/conv_7001/Conv'":                               nil,
		"Load model from m.onnx failed:Protobuf parsing failed.":                                                      nil,
		"Exiting due to terminate flag being set to true.":                                                            nil,
		"CUDA failure 7001: no number of an error":                                                                    nil,
		"Non-zero status code returned while running MatMul node. Name:'/700' CUDA is fine":                           nil,
	} {
		got := onnx.Classify(errors.New(text))
		for _, fault := range []error{onnx.ErrOutOfMemory, onnx.ErrDeviceLost} {
			if errors.Is(got, fault) != errors.Is(want, fault) {
				t.Errorf("%q is %v", text, got)
			}
		}
	}
}

func TestBrokenModel(t *testing.T) {
	rt := open(t)
	data, err := os.ReadFile(filepath.Join(testModels, "sd1/vae_decoder/model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	for name, source := range map[string]onnx.Source{
		"missing": {Path: "nothing.onnx"}, "cut": {Data: data[:len(data)-100]}, "text": {Data: []byte("text")}, "empty": {},
	} {
		if _, err := rt.Load(source, onnx.Options{Device: onnx.CPU}, nil); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}

// bindUNet binds a UNet for a batch of n latents of 8 x 8.
func bindUNet(t testing.TB, s *onnx.Session, n int64) *onnx.Binding {
	t.Helper()
	b, err := s.Bind(func(v onnxfile.Value) ([]int64, error) {
		switch v.Name {
		case "timestep":
			if len(v.Dims) == 0 {
				return nil, nil
			}
			return []int64{n}, nil
		case "encoder_hidden_states":
			return []int64{n, 77, v.Dims[2]}, nil
		default:
			return []int64{n, 4, 8, 8}, nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func fill(b *onnx.Binding, timestep float32) {
	for _, name := range []string{"sample", "encoder_hidden_states"} {
		x := b.Tensor(name).Floats()
		for i := range x {
			x[i] = float32(math.Sin(float64(i)))
		}
	}
	for i := range b.Tensor("timestep").Floats() {
		b.Tensor("timestep").SetNumber(i, timestep)
	}
}

// The edit that gives every sample its own timestep changes no number, and a
// scalar timestep sees each new value.
func TestVectorTimestepEqualsScalar(t *testing.T) {
	rt := open(t)
	source := onnx.Source{Path: filepath.Join(testModels, "sd1/unet/model.onnx")}
	plain := bindUNet(t, load(t, rt, source, nil), 1)
	edited := bindUNet(t, load(t, rt, source, func(m *onnxfile.Model) (bool, error) { return m.VectorTimestep("timestep") }), 2)
	s := stop(t, t.Context())
	for _, timestep := range []float32{7, 993} {
		fill(plain, timestep)
		fill(edited, timestep)
		copy(edited.Tensor("sample").Floats()[256:], plain.Tensor("sample").Floats())
		copy(edited.Tensor("encoder_hidden_states").Floats()[77*32:], plain.Tensor("encoder_hidden_states").Floats())
		edited.Tensor("timestep").SetNumber(0, 500)
		for _, b := range []*onnx.Binding{plain, edited} {
			if err := b.Run(s); err != nil {
				t.Fatal(err)
			}
		}
		want, got := plain.Tensor("out_sample").Floats(), edited.Tensor("out_sample").Floats()[256:]
		for i := range want {
			if d := math.Abs(float64(want[i] - got[i])); d > 1e-5 {
				t.Fatalf("timestep %v: element %d differs by %g", timestep, i, d)
			}
		}
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	rt := open(t)
	b := bindUNet(t, load(t, rt, onnx.Source{Path: filepath.Join(testModels, "sd1/unet/model.onnx")}, nil), 64)
	fill(b, 1)
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	s := stop(t, ctx)
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	var err error
	for range 10_000 {
		if err = b.Run(s); err != nil {
			break
		}
	}
	if !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
	if err := b.Run(stop(t, t.Context())); err != nil {
		t.Errorf("the session cannot be used after a stop: %v", err)
	}
}

// What a run allocates is the Go binding's: two slices, and a handle for each
// of the four tensors.
func TestRunAllocatesOnlyHandles(t *testing.T) {
	rt := open(t)
	b := bindUNet(t, load(t, rt, onnx.Source{Path: filepath.Join(testModels, "sd1/unet/model.onnx")},
		func(m *onnxfile.Model) (bool, error) { return m.VectorTimestep("timestep") }), 2)
	fill(b, 1)
	s := stop(t, t.Context())
	if n := testing.AllocsPerRun(20, func() {
		if err := b.Run(s); err != nil {
			t.Fatal(err)
		}
	}); n > 6 {
		t.Errorf("%v allocations in a run", n)
	}
}

func TestTensors(t *testing.T) {
	open(t)
	if _, err := onnx.NewTensor(onnxfile.Float32, 2, 0); err == nil {
		t.Error("an axis of zero was accepted")
	}
	if _, err := onnx.NewTensor(onnxfile.BFloat16, 2); err == nil {
		t.Error("bfloat16 was accepted")
	}
	for _, element := range []onnxfile.ElementType{onnxfile.Float32, onnxfile.Float16, onnxfile.Int64, onnxfile.Int32} {
		x, err := onnx.NewTensor(element, 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		x.SetNumber(5, 2.75)
		if f := x.Floats(); len(f) == 6 && f[5] != 2.75 {
			t.Errorf("%s: %v", element, x.Floats())
		}
	}
}
