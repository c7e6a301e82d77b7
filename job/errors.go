package job

import (
	"errors"
	"fmt"
)

// Code names a kind of failure. It stands in records and in the status.
type Code string

// The codes of a failure.
const (
	InvalidJob         Code = "invalid_job"
	UnknownModel       Code = "unknown_model"
	InputMissing       Code = "input_missing"
	InputInvalid       Code = "input_invalid"
	InputTooLarge      Code = "input_too_large"
	Refused            Code = "refused"
	Expired            Code = "expired"
	OutOfMemory        Code = "out_of_memory"
	BadOutput          Code = "bad_output"
	EngineFailed       Code = "engine_failed"
	Internal           Code = "internal"
	StorageUnavailable Code = "storage_unavailable"
)

// Codes lists every code.
func Codes() []Code {
	return []Code{
		InvalidJob, UnknownModel, InputMissing, InputInvalid, InputTooLarge, Refused, Expired, OutOfMemory, BadOutput, EngineFailed, Internal,
		StorageUnavailable,
	}
}

// Final reports whether another attempt would fail in the same way, so that
// the job ends at once.
func (c Code) Final() bool {
	switch c {
	case OutOfMemory, EngineFailed, Internal, StorageUnavailable:
		return false
	default:
		return true
	}
}

// Error is the one error that crosses from the rooms to a user. Message is
// public: it never holds a prompt, a user's file name, a signed address or a
// secret. Err, the cause, is for the operator's log alone.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Err     error  `json:"-"`
	// Safety are the checks that a refused job went through.
	Safety []Verdict `json:"-"`
	// Uncounted: the trouble is the surroundings', whatever the code.
	Uncounted bool `json:"-"`
}

// Passing reports whether the trouble is the surroundings' and not the job's:
// such an attempt is not counted against it.
func (e *Error) Passing() bool { return e.Uncounted || e.Code == StorageUnavailable }

// Errorf makes an error whose text is public.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error with a public message and a private cause.
func Wrap(code Code, cause error, message string) *Error {
	return &Error{Code: code, Message: message, Err: cause}
}

func (e *Error) Error() string {
	if e.Err == nil {
		return string(e.Code) + ": " + e.Message
	}
	return string(e.Code) + ": " + e.Message + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// AsError finds the *Error in err's chain; an error without one is internal.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Wrap(Internal, err, "the worker failed in a way it did not foresee; the log has the cause")
}

// ErrHeld: the jobs of the job's subject are on hold. It waits, and no attempt
// is counted.
var ErrHeld = errors.New("the job's subject is on hold")

// Causes of a cancelled context (context.Cause). They tell why work ended.
var (
	// ErrCancelled: the user cancelled the job.
	ErrCancelled = errors.New("the job was cancelled")
	// ErrShutdown: the worker stops and hands the job back.
	ErrShutdown = errors.New("the worker is shutting down")
	// ErrTimeout: the attempt took longer than the configured job timeout.
	ErrTimeout = errors.New("the attempt took longer than the job timeout")
)
