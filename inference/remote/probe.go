package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
)

// Device is what a probe finds.
type Device struct {
	// Device is "cpu" or "cuda:N".
	Device   string `json:"device"`
	Provider string `json:"provider"`
	// Name is what its maker calls it; "" if unknown.
	Name string `json:"name,omitempty"`
	UUID string `json:"uuid,omitempty"`
	// Memory is all, Free what nobody uses now, in bytes; 0 if unknown.
	Memory int64 `json:"memory,omitempty"`
	Free   int64 `json:"free,omitempty"`
	// Error is why it cannot be used.
	Error string `json:"error,omitempty"`
}

// Probe lists this machine's devices by running the options' program and
// arguments, which print one Device a line: a driver that crashes, or never
// comes back, does so there.
func Probe(ctx context.Context, o Options) ([]Device, error) {
	o.Devices = []string{""}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.StartTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, o.Program, o.Args...) //nolint:gosec // the program is our own
	command.Env, command.SysProcAttr = environment(o.Environ, ""), attributes()
	var out bounds
	command.Stdout = &out
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("probe devices: %w", err)
	}
	command.Stderr = w
	said := make(chan string, 1)
	go func() { said <- forward(r, o.Log.With(slog.String("device", "probe"))) }() //nolint:contextcheck // it ends with the output
	err = command.Run()
	_ = w.Close()
	text := <-said
	_ = r.Close()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("probe devices: %w: %s", err, text)
	}
	var devices []Device
	dec := json.NewDecoder(&out.Buffer)
	for {
		var d Device
		err := dec.Decode(&d)
		if errors.Is(err, io.EOF) {
			return devices, nil
		}
		if err != nil {
			return nil, fmt.Errorf("probe devices: %w", err)
		}
		devices = append(devices, d)
	}
}

// bounds is a buffer that takes no more than a list of devices needs.
type bounds struct{ bytes.Buffer }

func (b *bounds) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxLine {
		return 0, errWire
	}
	return b.Buffer.Write(p)
}
