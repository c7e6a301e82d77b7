package local

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/nvml"
	"github.com/imgus/worker/inference/onnx"
)

// gauge reads what a device tells.
type gauge struct {
	facts func() inference.Device
	// source is where the figure of its memory comes from.
	source string
	// own is how many bytes of the device's memory this process has; nil where
	// nobody can tell.
	own func() int64
}

// gauges are those of an engine's devices. What they read stays open: a sandbox
// may keep it from being opened later.
type gauges struct {
	alone   bool // one device only: its memory is the process's
	driver  *nvml.Driver
	closers []func() error
}

func newGauges(devices []string) *gauges {
	g := &gauges{alone: len(devices) == 1}
	for _, name := range devices {
		if name == string(onnx.CPU) || g.driver != nil {
			continue
		}
		if driver, err := nvml.Open(); err == nil { // else nothing is known of the GPUs
			g.driver, g.closers = driver, append(g.closers, driver.Close)
		}
	}
	return g
}

func (g *gauges) close() error {
	var errs []error
	for _, c := range g.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// of gives the gauge of a device.
func (g *gauges) of(device onnx.Device) gauge {
	if device == onnx.CPU {
		return g.processor()
	}
	unknown := gauge{facts: func() inference.Device { return inference.Device{} }}
	n, err := strconv.Atoi(strings.TrimPrefix(string(device), "cuda:"))
	if err != nil || g.driver == nil {
		return unknown
	}
	gpu, err := g.driver.Find(n, nvml.VisibleFrom(os.LookupEnv))
	if err != nil {
		return unknown
	}
	return gaugeOf(gpu)
}

func (g *gauges) processor() gauge {
	resident, closer := residentMemory()
	g.closers = append(g.closers, closer)
	total, source := hostMemory(os.DirFS("/"))
	all := gauge{source: source, facts: func() inference.Device {
		d := inference.Device{MemoryTotal: total}
		if resident != nil {
			d.MemoryUsed = resident()
		}
		return d
	}}
	if g.alone {
		all.own = resident
	}
	return all
}

// gpu is what a gauge asks of a GPU: *nvml.GPU.
type gpu interface {
	Facts() (nvml.Facts, error)
	Own() (int64, bool)
}

// gaugeOf is the gauge of a GPU. Before the first session the driver knows
// nothing of this process, and in a container perhaps never.
func gaugeOf(g gpu) gauge {
	return gauge{
		source: byDriver,
		facts: func() inference.Device {
			f, err := g.Facts()
			if err != nil {
				return inference.Device{} // a lost GPU shows where it is used
			}
			return inference.Device{
				Name: f.Name, UUID: f.UUID, MemoryTotal: f.Total, MemoryUsed: f.Used, Utilisation: f.Utilisation, Temperature: f.Temperature,
			}
		},
		own: func() int64 {
			bytes, _ := g.Own()
			return bytes
		},
	}
}
