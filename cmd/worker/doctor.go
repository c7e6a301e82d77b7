package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Try everything that the worker depends on, and say what to do",
		Long: `Tries each dependency for real, a line each: the configuration; Redis, its
settings and the user's rights; the keys of sealed jobs; the storage (write,
conditional write, delete, list); ONNX Runtime and its provider libraries; every
device, by drawing a small picture on it; every model, by its digests; room on
the disks; the clock; and whether other workers serve the same models. It can
run beside a worker.

Exit status: 0 when all is well or only warnings were given, 78 if the
configuration is wrong, 69 if a service is away or takes nothing, 1 for
anything else.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.doctor(ctx)
		},
	}
}

// verdict is what a check came to.
type verdict string

const (
	good    verdict = "ok"
	warning verdict = "warning"
	bad     verdict = "failed"
)

// finding is one line of the doctor's.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	// Remedy says what to do, unless all is well.
	Remedy string `json:"remedy,omitempty"`

	err error // of what failed, for the exit status
}

// doctor is one run of the command.
type doctor struct {
	app    *app
	config configs.Config

	mu     sync.Mutex
	status int
}

func (a *app) doctor(ctx context.Context) error {
	d := &doctor{app: a}
	var err error
	d.config, _, err = configs.Load(a.configFile, a.environ, configs.NeedStorage)
	problems, wrong := errors.AsType[*configs.Problems](err)
	switch {
	case wrong:
		for _, p := range problems.List {
			d.tell(finding{Check: "config", Verdict: bad, Detail: p.Key + ": " + p.Message, Remedy: "mend it; worker config check tells when it is good", err: err})
		}
	case err != nil:
		return err
	default:
		d.tell(finding{Check: "config", Verdict: good, Detail: "every key is valid"})
	}
	// What can be tried with a configuration that is wrong elsewhere is tried.
	has := func(section string) bool {
		if problems == nil {
			return false
		}
		for _, p := range problems.List {
			if strings.HasPrefix(p.Key, section+".") {
				return true
			}
		}
		return false
	}
	for _, part := range []struct {
		section string
		check   func(context.Context)
	}{
		{"redis", d.redis}, {"seal", d.seal}, {"storage", d.storage}, {"engine", d.engine}, {"models", d.models}, {"privacy", d.privacy}, {"safety", d.safety}, {"http", d.http},
	} {
		if !has(part.section) && ctx.Err() == nil {
			part.check(ctx)
		}
	}
	if d.status != 0 {
		return &exitError{status: d.status}
	}
	return nil
}

// tell prints a finding, and remembers the worst.
func (d *doctor) tell(f finding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.Verdict == bad {
		status := statusOf(f.err)
		// Wrong configuration goes before an absent service, and that before all else.
		for _, s := range []int{exitConfig, exitUnavailable} {
			if d.status == s || status == s {
				status = s
				break
			}
		}
		d.status = status
	}
	if d.app.json {
		_ = d.app.print(f) // standard output that is gone is nobody's loss
		return
	}
	line := fmt.Sprintf("%-8s %-11s %s", f.Verdict, f.Check, f.Detail)
	if f.Remedy != "" {
		line += "\n" + strings.Repeat(" ", 21) + "-> " + f.Remedy
	}
	fmt.Fprintln(d.app.stdout, line)
}

func (d *doctor) ok(check, format string, args ...any) {
	d.tell(finding{Check: check, Verdict: good, Detail: fmt.Sprintf(format, args...)})
}

func (d *doctor) warn(check, detail, remedy string) {
	d.tell(finding{Check: check, Verdict: warning, Detail: detail, Remedy: remedy})
}

func (d *doctor) fail(check string, err error, remedy string) {
	d.tell(finding{Check: check, Verdict: bad, Detail: err.Error(), Remedy: remedy, err: err})
}
