package remote

import (
	"bytes"
	"cmp"
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
	output, err := Once(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("probe devices: %w", err)
	}
	var devices []Device
	dec := json.NewDecoder(bytes.NewReader(output))
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

// Once runs the options' program and arguments for the first device, with the
// configuration on its standard input and what else an engine has, and gives
// what it prints. It may take StartTimeout.
func Once(ctx context.Context, o Options) ([]byte, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(o.Config)
	if err != nil {
		return nil, fmt.Errorf("configure engine: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("it took more than %s", o.StartTimeout))
	defer cancel()
	pattern := o.command(o.Devices[0])
	command := exec.CommandContext(ctx, pattern.Path) //nolint:gosec // the program is our own
	command.Args, command.Env, command.SysProcAttr = pattern.Args, pattern.Env, pattern.SysProcAttr
	var out bounds
	command.Stdin, command.Stdout = bytes.NewReader(config), &out
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("run engine: %w", err)
	}
	command.Stderr = w
	said := make(chan string, 1)
	go func() { said <- forward(r, o.Log.With(slog.String("device", cmp.Or(o.Devices[0], "probe")))) }() //nolint:contextcheck // it ends with the output
	err = command.Run()
	_ = w.Close()
	text := <-said
	_ = r.Close()
	switch {
	case err == nil:
		return out.Bytes(), nil
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	if text != "" {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return nil, err
}

// bounds is a buffer that takes no more than a list of devices needs.
type bounds struct{ bytes.Buffer }

func (b *bounds) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxLine {
		return 0, errWire
	}
	return b.Buffer.Write(p)
}
