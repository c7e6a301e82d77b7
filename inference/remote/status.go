package remote

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"

	"github.com/imgus/worker/inference"
)

// DeviceStatus is a device as it stands.
type DeviceStatus struct {
	Device string `json:"device"`
	State  State  `json:"state"`
	Slots  int    `json:"slots"`
	Busy   int    `json:"busy"`
	// Models are those that the child has in memory.
	Models []string `json:"models,omitempty"`
	PID    int      `json:"pid,omitempty"`
	// Memory is the child's resident memory in bytes, 0 if unknown.
	Memory int64 `json:"memory,omitempty"`
	// Confined is what keeps the child from the network; "" is nothing, and
	// Unconfined then says why.
	Confined   string `json:"confined,omitempty"`
	Unconfined string `json:"unconfined,omitempty"`
	// Restarts are all, Failures those in a row that were of no use.
	Restarts int `json:"restarts"`
	Failures int `json:"failures"`
	// Ends are the ends of its children by reason.
	Ends map[End]int `json:"ends,omitempty"`
	// Error is how the last child ended.
	Error string `json:"error,omitempty"`
}

// Devices names the devices.
func (p *Pool) Devices() []string { return p.options.Devices }

// Health says how each device stands.
func (p *Pool) Health() []DeviceStatus {
	all := make([]DeviceStatus, len(p.devices))
	p.look(func() {
		for i, s := range p.devices {
			d := DeviceStatus{Device: s.device, State: s.state(), Restarts: max(s.starts-1, 0), Failures: s.failures}
			d.Ends = maps.Clone(s.ends)
			if s.last != nil {
				d.Error = s.last.Error()
			}
			if c := s.live; c != nil {
				d.Slots, d.Busy, d.Models, d.PID = c.slots, c.busy, slices.Clone(c.models), c.pid
				d.Confined, d.Unconfined = c.confinement.Confined, c.confinement.Unconfined
			}
			all[i] = d
		}
	})
	for i := range all {
		if pid := all[i].PID; pid != 0 {
			all[i].Memory, _ = residentMemory(pid) // 0 where nobody can tell
		}
	}
	return all
}

// Slots is how many jobs all devices work on at once when none is bad.
func (p *Pool) Slots() (n int) {
	p.look(func() {
		for _, s := range p.devices {
			if s.live != nil {
				n += s.live.slots
			} else {
				n++
			}
		}
	})
	return n
}

// Capacity is how many jobs the children that are ready work on at once.
func (p *Pool) Capacity() (n int) {
	p.look(func() {
		for _, s := range p.devices {
			if s.live != nil {
				n += s.live.slots
			}
		}
	})
	return n
}

// Busy is how many jobs are in hand.
func (p *Pool) Busy() (n int) {
	p.look(func() { n = p.busy })
	return n
}

// Ready reports whether a child is ready.
func (p *Pool) Ready() bool { return p.Capacity() > 0 }

// WarmUp implements inference.Host: every child that is ready does it, and each
// that is started from now on before it takes jobs.
func (p *Pool) WarmUp(ctx context.Context, w inference.WarmUp) error {
	w.Progress = nil // of several children at once it would say nothing
	var children []*process
	p.look(func() {
		p.warm = append(slices.DeleteFunc(slices.Clone(p.warm), func(o inference.WarmUp) bool { return reflect.DeepEqual(o, w) }), w)
		for _, s := range p.devices {
			if s.live != nil {
				children = append(children, s.live)
			}
		}
	})
	errs := make(chan error)
	for _, c := range children {
		go func() { errs <- p.warmOne(ctx, c, w) }()
	}
	var all []error
	for range children {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (p *Pool) warmOne(ctx context.Context, c *process, w inference.WarmUp) error {
	child, err := p.take(ctx, func() *process {
		if c.gone || c.free() {
			return c
		}
		return nil
	})
	if err != nil {
		return err
	}
	a, err := child.warmUp(ctx, w)
	p.settle(child, a, err)
	switch {
	case err == nil && a.Error == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil:
		return a.Error
	case isGone(err):
		return child.jobError()
	default:
		return err
	}
}

func (p *Pool) warmUps() (w []inference.WarmUp) {
	p.look(func() { w = p.warm })
	return w
}

// Status implements inference.Host: the sum over the children that are ready,
// with the engine of the first. One that ends meanwhile is left out.
func (p *Pool) Status(ctx context.Context) (inference.Status, error) {
	var children []*process
	p.look(func() {
		for _, s := range p.devices {
			if s.live != nil {
				children = append(children, s.live)
			}
		}
	})
	var sum inference.Status
	named := false
	for _, c := range children {
		one, err := c.status(ctx)
		switch {
		case ctx.Err() != nil:
			return inference.Status{}, context.Cause(ctx)
		case err != nil && c.over():
			continue
		case err != nil:
			return inference.Status{}, err
		}
		if !named {
			named = true
			sum.Engine = one.Engine
			sum.Engine.Device = c.device
		}
		for _, d := range one.Devices {
			d.Device = c.device // the child counts the devices that it can see
			sum.Devices = append(sum.Devices, d)
		}
		for _, bad := range one.BadModels {
			if !slices.ContainsFunc(sum.BadModels, func(b inference.BadModel) bool { return b.Name == bad.Name }) {
				sum.BadModels = append(sum.BadModels, bad)
			}
		}
		sum.Slots += one.Slots
		sum.Busy += one.Busy
		sum.Models = append(sum.Models, one.Models...)
		sum.MemoryBudget += one.MemoryBudget
		sum.MemoryUsed += one.MemoryUsed
	}
	return sum, nil
}
