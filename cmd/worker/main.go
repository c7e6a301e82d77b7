// Command worker makes the pictures of an app: it takes jobs from Redis, runs
// diffusion models with ONNX Runtime, and stores images and their records.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

// Exit statuses, as sysexits.h has the last two.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnavailable = 69
	exitConfig      = 78
)

func main() {
	// Every command holds something of a user's, or a secret.
	if err := remote.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(exitFailed)
	}
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// app is the program with its surroundings, so that tests can run it whole.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string

	configFile string
	json       bool
	level      slog.LevelVar // of every logger
}

// exitError ends the program with a status. A nil err has been told already.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// failed ends the program after the command has said what failed.
func failed() error { return &exitError{status: exitFailed} }

// usage is an error of whoever called the command.
func usage(format string, args ...any) error {
	return &exitError{status: exitUsage, err: fmt.Errorf(format, args...)}
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand() //nolint:contextcheck // cobra gives each command the context
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	status := statusOf(err)
	if exit, ok := errors.AsType[*exitError](err); !ok || exit.err != nil {
		fmt.Fprintln(a.stderr, "worker:", err)
	}
	return status
}

// statusOf gives an error the exit status of its kind.
func statusOf(err error) int {
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.status
	}
	if _, ok := errors.AsType[*configs.Problems](err); ok {
		return exitConfig
	}
	if e, ok := errors.AsType[*job.Error](err); ok {
		switch e.Code {
		case job.InvalidJob, job.InputMissing, job.InputTooLarge:
			return exitUsage
		case job.StorageUnavailable:
			return exitUnavailable
		}
	}
	switch {
	case errors.Is(err, queue.ErrUnavailable), errors.Is(err, storage.ErrUnavailable), errors.Is(err, onnx.ErrDeviceAway):
		return exitUnavailable
	case errors.Is(err, onnx.ErrLibrary), errors.Is(err, onnx.ErrDevice), errors.Is(err, local.ErrClassifier), errors.Is(err, storage.ErrUnfit):
		return exitConfig
	}
	return exitFailed
}
