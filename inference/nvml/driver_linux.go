//go:build linux && cgo

package nvml

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Driver is the driver's library, open. It is safe for concurrent use.
type Driver struct{ library nvml.Interface }

// Open finds the driver. The error is ErrNoDriver.
func Open() (*Driver, error) { return open(nvml.New()) }

func open(library nvml.Interface) (*Driver, error) {
	if code := library.Init(); !errors.Is(code, nvml.SUCCESS) {
		return nil, fmt.Errorf("%w: %w", ErrNoDriver, code)
	}
	return &Driver{library: library}, nil
}

// Close closes the library.
func (d *Driver) Close() error {
	if code := d.library.Shutdown(); !errors.Is(code, nvml.SUCCESS) {
		return fmt.Errorf("close NVML: %w", code)
	}
	return nil
}

// GPU is a GPU, or a part of one.
type GPU struct{ device nvml.Device }

// Count is how many GPUs the driver has, whatever CUDA may see.
func (d *Driver) Count() (int, error) {
	n, code := d.library.DeviceGetCount()
	if !errors.Is(code, nvml.SUCCESS) {
		return 0, fmt.Errorf("count GPUs: %w", code)
	}
	return n, nil
}

// Find gives the GPU that CUDA counts as the nth. The error is ErrUnknown.
func (d *Driver) Find(n int, visible Visible) (*GPU, error) {
	name, err := visible.nth(n)
	if err != nil {
		return nil, err
	}
	count, err := d.Count()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	index, notNumber := strconv.Atoi(name)
	switch {
	case strings.HasPrefix(name, "MIG-"):
		return found(d.library.DeviceGetHandleByUUID(name))
	case notNumber != nil:
		return d.byUUID(name, count)
	case visible.Order != "PCI_BUS_ID" && count > 1:
		// CUDA counts the fastest first then, by a measure of its own.
		return nil, fmt.Errorf("%w: CUDA_DEVICE_ORDER is not PCI_BUS_ID", ErrUnknown)
	default:
		return found(d.library.DeviceGetHandleByIndex(index))
	}
}

// byUUID finds the GPU by the beginning of its UUID, as CUDA does.
func (d *Driver) byUUID(prefix string, count int) (*GPU, error) {
	for i := range count {
		gpu, err := found(d.library.DeviceGetHandleByIndex(i))
		if err != nil {
			continue // one that is broken does not hide the others
		}
		if uuid, code := gpu.device.GetUUID(); errors.Is(code, nvml.SUCCESS) && strings.HasPrefix(uuid, prefix) {
			return gpu, nil
		}
	}
	return nil, fmt.Errorf("%w: no GPU has the UUID that CUDA_VISIBLE_DEVICES names", ErrUnknown)
}

func found(device nvml.Device, code nvml.Return) (*GPU, error) {
	if !errors.Is(code, nvml.SUCCESS) {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, code)
	}
	return &GPU{device: device}, nil
}

// Facts asks the driver. Without its memory a GPU is lost.
func (g *GPU) Facts() (Facts, error) {
	memory, code := g.device.GetMemoryInfo()
	if !errors.Is(code, nvml.SUCCESS) {
		return Facts{}, fmt.Errorf("ask the GPU for its memory: %w", code)
	}
	f := Facts{Total: bytes(memory.Total), Used: bytes(memory.Used), Free: bytes(memory.Free)}
	f.Name, _ = g.device.GetName() // "" where it does not tell
	f.UUID, _ = g.device.GetUUID()
	if rates, code := g.device.GetUtilizationRates(); errors.Is(code, nvml.SUCCESS) {
		f.Utilisation = new(int(rates.Gpu))
	}
	if degrees, code := g.device.GetTemperature(nvml.TEMPERATURE_GPU); errors.Is(code, nvml.SUCCESS) {
		f.Temperature = new(int(degrees))
	}
	return f, nil
}

// Own is how many bytes of the GPU's memory this process has; false where the
// driver does not know the process, which in a container may be so.
func (g *GPU) Own() (int64, bool) {
	processes, code := g.device.GetComputeRunningProcesses()
	if !errors.Is(code, nvml.SUCCESS) {
		return 0, false
	}
	for _, p := range processes {
		if int64(p.Pid) == int64(os.Getpid()) && p.UsedGpuMemory != math.MaxUint64 { // NVML_VALUE_NOT_AVAILABLE
			return bytes(p.UsedGpuMemory), true
		}
	}
	return 0, false
}

func bytes(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
