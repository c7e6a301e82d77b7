// Package nvml asks NVIDIA's driver about its GPUs (NVML, the library that
// nvidia-smi is made of). The driver is a library that is looked for at run
// time: without one, and in a program without cgo, there is ErrNoDriver.
package nvml

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrNoDriver: there is no driver that could be asked.
	ErrNoDriver = errors.New("NVIDIA's driver does not answer")
	// ErrUnknown: nobody can tell which of the driver's GPUs CUDA means.
	ErrUnknown = errors.New("the driver does not tell which GPU it is")
)

// Facts are what the driver tells of a GPU.
type Facts struct {
	// Name is what its maker calls it.
	Name string
	UUID string
	// Total, Used and Free are the memory of the whole GPU, in bytes. Used is by
	// all processes, and by the driver.
	Total, Used, Free int64
	// Utilisation is the share of the last moments in which it worked, in
	// percent, and Temperature is in degrees Celsius; nil where the GPU does not
	// tell, as a part of a GPU (MIG) does not.
	Utilisation, Temperature *int
}

// Visible is which GPUs CUDA sees, as its variables say (CUDA C++ Programming
// Guide, environment variables).
type Visible struct {
	// Devices is CUDA_VISIBLE_DEVICES; nil where it is not set.
	Devices *string
	// Order is CUDA_DEVICE_ORDER. The driver counts by PCI_BUS_ID.
	Order string
}

// VisibleFrom reads the variables by a function such as os.LookupEnv.
func VisibleFrom(lookup func(string) (string, bool)) Visible {
	var v Visible
	if devices, set := lookup("CUDA_VISIBLE_DEVICES"); set {
		v.Devices = &devices
	}
	v.Order, _ = lookup("CUDA_DEVICE_ORDER")
	return v
}

// nth names the GPU that CUDA counts as the nth: a number, the beginning of a
// UUID ("GPU-…"), or a part of a GPU ("MIG-…").
func (v Visible) nth(n int) (string, error) {
	if v.Devices == nil {
		return strconv.Itoa(n), nil
	}
	list := strings.Split(*v.Devices, ",")
	if n >= len(list) || strings.TrimSpace(list[n]) == "" {
		return "", fmt.Errorf("%w: CUDA sees no device %d", ErrUnknown, n)
	}
	return strings.TrimSpace(list[n]), nil
}
