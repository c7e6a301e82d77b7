//go:build linux && cgo

package nvml

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
)

// Without a driver the library is not found, and nothing worse happens.
func TestNoDriver(t *testing.T) {
	_, err := open(nvml.New(nvml.WithLibraryPath("libnvidia-ml.so.none")))
	if !errors.Is(err, ErrNoDriver) || !errors.Is(err, nvml.ERROR_LIBRARY_NOT_FOUND) {
		t.Errorf("got %v", err)
	}
}

const gib = 1 << 30

// machine is a driver of GPUs with the UUIDs.
func machine(t *testing.T, uuids ...string) *Driver {
	t.Helper()
	device := func(i int, uuid string) *mock.Device {
		return &mock.Device{
			GetUUIDFunc: func() (string, nvml.Return) { return uuid, nvml.SUCCESS },
			GetNameFunc: func() (string, nvml.Return) { return fmt.Sprint("GPU ", i), nvml.SUCCESS },
			GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) {
				return nvml.Memory{Total: uint64(i+1) * 10 * gib, Used: gib, Free: uint64(i+1)*10*gib - gib}, nvml.SUCCESS
			},
			GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) {
				if i == 0 {
					return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED
				}
				return nvml.Utilization{Gpu: 37}, nvml.SUCCESS
			},
			GetTemperatureFunc: func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS },
		}
	}
	d, err := open(&mock.Interface{
		InitFunc:           func() nvml.Return { return nvml.SUCCESS },
		ShutdownFunc:       func() nvml.Return { return nvml.SUCCESS },
		DeviceGetCountFunc: func() (int, nvml.Return) { return len(uuids), nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			if i < 0 || i >= len(uuids) {
				return nil, nvml.ERROR_INVALID_ARGUMENT
			}
			return device(i, uuids[i]), nvml.SUCCESS
		},
		DeviceGetHandleByUUIDFunc: func(uuid string) (nvml.Device, nvml.Return) { return device(9, uuid), nvml.SUCCESS },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFind(t *testing.T) {
	const bus = "PCI_BUS_ID"
	three := []string{"GPU-aaa1", "GPU-bbb2", "GPU-bbb3"}
	for name, tt := range map[string]struct {
		gpus    []string
		n       int
		visible *string
		order   string
		want    string // the UUID; "" is ErrUnknown
	}{
		"all are visible":            {three, 1, nil, bus, "GPU-bbb2"},
		"more than there are":        {three, 3, nil, bus, ""},
		"the fastest first":          {three, 1, nil, "", ""},
		"the fastest of one":         {three[:1], 0, nil, "FASTEST_FIRST", "GPU-aaa1"},
		"a number":                   {three, 0, new("2"), bus, "GPU-bbb3"},
		"the second of a list":       {three, 1, new("2, 0"), bus, "GPU-aaa1"},
		"beyond the list":            {three, 2, new("2,0"), bus, ""},
		"none are visible":           {three, 0, new(""), bus, ""},
		"no device":                  {three, 0, new("-1"), bus, ""},
		"a UUID, whatever the order": {three, 0, new("GPU-bbb3"), "", "GPU-bbb3"},
		"the beginning of a UUID":    {three, 0, new("GPU-b"), "", "GPU-bbb2"},
		"another's UUID":             {three, 0, new("GPU-c"), bus, ""},
		"a part of a GPU":            {three, 0, new("MIG-7"), "", "MIG-7"},
	} {
		gpu, err := machine(t, tt.gpus...).Find(tt.n, Visible{Devices: tt.visible, Order: tt.order})
		if tt.want == "" {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: got %v, %v", name, gpu, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f, err := gpu.Facts(); err != nil || f.UUID != tt.want {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
	}
}

func TestFacts(t *testing.T) {
	d := machine(t, "GPU-a", "GPU-b")
	for n, want := range []Facts{
		{Name: "GPU 0", UUID: "GPU-a", Total: 10 * gib, Used: gib, Free: 9 * gib, Temperature: new(61)},
		{Name: "GPU 1", UUID: "GPU-b", Total: 20 * gib, Used: gib, Free: 19 * gib, Utilisation: new(37), Temperature: new(61)},
	} {
		gpu, err := d.Find(n, Visible{Order: "PCI_BUS_ID"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := gpu.Facts()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	lost := &GPU{&mock.Device{GetMemoryInfoFunc: func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_GPU_IS_LOST }}}
	if _, err := lost.Facts(); !errors.Is(err, nvml.ERROR_GPU_IS_LOST) {
		t.Errorf("got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOwn(t *testing.T) {
	me := uint32(os.Getpid())
	for name, tt := range map[string]struct {
		processes []nvml.ProcessInfo
		code      nvml.Return
		want      int64
		known     bool
	}{
		"among others":   {[]nvml.ProcessInfo{{Pid: me + 1, UsedGpuMemory: 5}, {Pid: me, UsedGpuMemory: 3 * gib}}, nvml.SUCCESS, 3 * gib, true},
		"not there":      {[]nvml.ProcessInfo{{Pid: me + 1, UsedGpuMemory: 5}}, nvml.SUCCESS, 0, false},
		"no number":      {[]nvml.ProcessInfo{{Pid: me, UsedGpuMemory: math.MaxUint64}}, nvml.SUCCESS, 0, false},
		"may not be had": {nil, nvml.ERROR_NO_PERMISSION, 0, false},
	} {
		g := &GPU{&mock.Device{GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) { return tt.processes, tt.code }}}
		if got, known := g.Own(); got != tt.want || known != tt.known {
			t.Errorf("%s: got %d, %t", name, got, known)
		}
	}
}

func TestVisibleFrom(t *testing.T) {
	set := map[string]string{"CUDA_VISIBLE_DEVICES": "", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
	v := VisibleFrom(func(name string) (string, bool) { value, ok := set[name]; return value, ok })
	if v.Devices == nil || *v.Devices != "" || v.Order != "PCI_BUS_ID" {
		t.Errorf("%+v", v)
	}
	if v := VisibleFrom(func(string) (string, bool) { return "", false }); v.Devices != nil || v.Order != "" {
		t.Errorf("%+v", v)
	}
}
