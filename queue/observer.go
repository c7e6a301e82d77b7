package queue

import (
	"context"
	"time"

	"github.com/imgus/worker/job"
)

// Observer is told what happens to tasks, for metrics and traces. It must not
// block.
type Observer interface {
	// Began: an attempt begins at a task with these headers, by which a producer
	// may have told the trace that the job belongs to. The work has the context
	// that is returned, or one that comes of it.
	Began(ctx context.Context, queue string, headers map[string]string) context.Context
	// Ended: that attempt ended. ctx is of the work, which may be over.
	Ended(ctx context.Context, e End)
	// Dropped: something in the queue was no job, and could not even be refused.
	Dropped(queue string)
	// Recovered: a job that no worker had is back in its queue.
	Recovered(queue string)
	// Outage: Redis went away, or came back.
	Outage(away bool)
	// Command: Redis was asked, by a command of that name in small letters, or
	// "pipeline" or "dial". The error is none where Redis gave an answer that is
	// part of the work, such as that there is no such key.
	Command(name string, took time.Duration, err error)
}

// Result is how an attempt ended.
type Result string

// The results of an attempt.
const (
	// Finished: the job has ended.
	Finished Result = "finished"
	// Retried: the job waits for another attempt.
	Retried Result = "retried"
	// HandedBack: the worker stops, and another takes the job at once.
	HandedBack Result = "handed_back"
	// Parked: the job waits for a person, for what Code says: WaitsForRelease or
	// WaitsForKey.
	Parked Result = "parked"
)

// End is what came of an attempt.
type End struct {
	Queue string
	// Job is as far as it could be read: nothing of it is sure to be valid.
	Job     *job.Job
	Attempt job.Attempt
	Began   time.Time
	Result  Result
	// Outcome is of Finished.
	Outcome job.Outcome
	// Code is why it was tried again, what it waits for, or the outcome's.
	Code job.Code
	// Stage is the last that was heard of; "" if none was.
	Stage job.Stage
}

// Mine reports whether it was this attempt that made the outcome: the record
// tells of its work.
func (e End) Mine() bool {
	r := e.Outcome.Record
	return r != nil && r.Attempt != nil && r.Attempt.ID == e.Attempt.ID
}

func (c *Consumer) observe(tell func(Observer)) {
	if c.opts.Observer != nil {
		tell(c.opts.Observer)
	}
}

// end is what the observer and the log are told of a delivery.
func (d *delivery) end(v verdict) End {
	e := End{Queue: d.queue, Job: d.job, Attempt: d.attempt, Began: d.began, Stage: d.stage.get()}
	if e.Job == nil {
		e.Job = &job.Job{ID: d.id}
	}
	switch v.action {
	case finish:
		e.Result, e.Outcome, e.Code = Finished, v.outcome, v.outcome.Code
	case retry:
		e.Result, e.Code = Retried, v.reason.Code
	case handBack:
		e.Result = HandedBack
	case park:
		e.Result, e.Code = Parked, v.waits
	}
	return e
}
