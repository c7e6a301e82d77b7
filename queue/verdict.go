package queue

import (
	"errors"
	"time"

	"github.com/imgus/worker/job"
)

// result is what one attempt came to. cause is why its context ended, nil if
// it did not.
type result struct {
	outcome job.Outcome
	err     error
	cause   error
}

type action int

const (
	finish   action = iota // the outcome stands: the task goes
	refuse                 // no record yet, but the job must end: Handler.Refuse writes it
	retry                  // later, here or elsewhere
	handBack               // at once, elsewhere: this worker stops
	park                   // later: it waits for a person
)

// What a parked job waits for: the release of its subject, or a key that opens
// it.
const (
	WaitsForRelease job.Code = "held"
	WaitsForKey     job.Code = "sealed"
)

// verdict is what follows from a result.
type verdict struct {
	action  action
	outcome job.Outcome // of finish
	reason  *job.Error  // of refuse and retry
	waits   job.Code    // of park
	counted bool        // whether the attempt counts against the job
}

var errNoOutcome = errors.New("the handler returned neither an outcome nor an error")

// judge decides what follows. last says that no attempt is left.
func judge(r result, last bool) verdict {
	if r.err == nil && r.outcome.State.Final() {
		return verdict{action: finish, outcome: r.outcome, counted: true}
	}
	if errors.Is(r.err, job.ErrHeld) {
		return verdict{action: park, waits: WaitsForRelease}
	}
	reason := explain(r)
	switch code := reason.Code; {
	case errors.Is(r.err, job.ErrShutdown), errors.Is(r.cause, job.ErrShutdown) && !code.Final():
		return verdict{action: handBack}
	case reason.Passing():
		return verdict{action: retry, reason: reason}
	case code.Final(), last:
		return verdict{action: refuse, reason: reason, counted: true}
	default:
		return verdict{action: retry, reason: reason, counted: true}
	}
}

func explain(r result) *job.Error {
	if r.err == nil {
		return job.AsError(errNoOutcome)
	}
	reason := job.AsError(r.err)
	if errors.Is(r.cause, job.ErrTimeout) && !reason.Code.Final() && !reason.Passing() {
		return job.Wrap(job.EngineFailed, r.err, job.ErrTimeout.Error())
	}
	return reason
}

// retryDelay is how long a job waits after its nth attempt. Trouble that
// passes ends for all jobs at once, so nobody waits long for it.
func retryDelay(n int, reason *job.Error) time.Duration {
	delays := []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute}
	if reason.Passing() {
		delays = delays[:3]
	}
	return delays[min(max(n, 1), len(delays))-1]
}

// parkDelay is how long a job that waits for a person does so after its nth
// attempt. Many may wait, and each costs a few requests; the release of a hold
// lets them go on at once.
func parkDelay(n int) time.Duration {
	return min(time.Duration(max(n, 1))*30*time.Second, 10*time.Minute)
}

// later is what asynq is told of a job that is tried again. asynq keeps the
// text in Redis, so it is the code alone.
type later struct {
	code  job.Code
	delay time.Duration
}

func (l *later) Error() string { return string(l.code) }
