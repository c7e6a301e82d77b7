package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
)

// Status is what is known of a job: the hash imgus:job:<id>, and as JSON each
// event on imgus:events:<id>.
type Status struct {
	ID    string    `json:"id"`
	Queue string    `json:"queue,omitempty"`
	State job.State `json:"state"`
	// Stage, Step and Steps say where a running job is.
	Stage job.Stage `json:"stage,omitempty"`
	Step  int       `json:"step"`
	Steps int       `json:"steps"`
	// Attempt counts the tries, from one; 0 before the first.
	Attempt int `json:"attempt"`
	// ErrorCode says why the job failed, or why it waits to be tried again.
	ErrorCode job.Code  `json:"error_code,omitempty"`
	ResultKey string    `json:"result_key,omitempty"`
	UpdatedAt time.Time `json:"updated_at"`
}

// follows reports whether s tells something that earlier does not.
func (s Status) follows(earlier Status) bool {
	switch {
	case earlier.State.Final():
		return false
	case s.State.Final() || s.Attempt > earlier.Attempt:
		return true
	default:
		return s.Attempt == earlier.Attempt && s.UpdatedAt.After(earlier.UpdatedAt)
	}
}

// statuses reads and writes the status of jobs.
type statuses struct {
	redis redis.UniversalClient
	ttl   time.Duration
}

var statusScript = script("status")

// put sets a job's status and publishes it. It reports false, and changes
// nothing, after a final state and, unless it is one, after a later attempt.
func (s statuses) put(ctx context.Context, status Status) (bool, error) {
	return s.write(ctx, status, status.Attempt)
}

// claim is put unless the job has any status.
func (s statuses) claim(ctx context.Context, status Status) (bool, error) {
	return s.write(ctx, status, -1)
}

func (s statuses) write(ctx context.Context, status Status, attempt int) (bool, error) {
	status.UpdatedAt = time.Now().UTC()
	event, err := json.Marshal(status)
	if err != nil {
		return false, fmt.Errorf("encode status: %w", err)
	}
	args := append([]any{attempt, int(s.ttl.Seconds()), eventsChannel(status.ID), event}, status.fields()...)
	set, err := statusScript.Run(ctx, s.redis, []string{jobKey(status.ID)}, args...).Bool()
	if err != nil {
		return false, unavailable("write status", err)
	}
	return set, nil
}

func (s Status) fields() []any {
	fields := []any{
		"state", string(s.State), "step", s.Step, "steps", s.Steps, "attempt", s.Attempt,
		"updated_at", s.UpdatedAt.Format(time.RFC3339Nano),
	}
	for _, field := range [][2]string{
		{"queue", s.Queue}, {"stage", string(s.Stage)}, {"error_code", string(s.ErrorCode)}, {"result_key", s.ResultKey},
	} {
		if field[1] != "" {
			fields = append(fields, field[0], field[1])
		}
	}
	return fields
}

// awaited reports whether somebody was told of the job and not yet of its end.
func (s statuses) awaited(ctx context.Context, id string) (bool, error) {
	if !job.ValidID(id) {
		return false, nil
	}
	status, err := s.get(ctx, id)
	if errors.Is(err, ErrUnknownJob) {
		return false, nil
	}
	return err == nil && !status.State.Final(), err
}

// get reads a job's status; ErrUnknownJob if it has none.
func (s statuses) get(ctx context.Context, id string) (Status, error) {
	hash, err := s.redis.HGetAll(ctx, jobKey(id)).Result()
	if err != nil {
		return Status{}, unavailable("read status", err)
	}
	if hash["state"] == "" {
		return Status{}, ErrUnknownJob
	}
	number := func(field string) int {
		n, _ := strconv.Atoi(hash[field]) // an absent field is zero
		return n
	}
	updated, _ := time.Parse(time.RFC3339Nano, hash["updated_at"])
	return Status{
		ID: id, Queue: hash["queue"], State: job.State(hash["state"]), Stage: job.Stage(hash["stage"]),
		Step: number("step"), Steps: number("steps"), Attempt: number("attempt"),
		ErrorCode: job.Code(hash["error_code"]), ResultKey: hash["result_key"], UpdatedAt: updated,
	}, nil
}
