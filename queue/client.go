package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

const (
	// asynq archives what reaches its retry limit and takes back what reaches
	// its timeout. Workers have limits of their own, so these are far away.
	taskMaxRetry = 1000
	taskTimeout  = 24 * time.Hour
)

// ClientOptions are what a client needs.
type ClientOptions struct {
	Connection Connection
	// StatusTTL is how long a waiting job's status is kept; 0 is DefaultStatusTTL.
	StatusTTL time.Duration
	// Headers, if not nil, gives a task's headers: the trace context of what
	// enqueues it (traceparent, as W3C Trace Context has it).
	Headers func(ctx context.Context) map[string]string
	// Keys seal what is enqueued, if one is chosen, and open what waits.
	Keys seal.Keys
}

// Client puts jobs into Redis and follows them. Errors of Redis are
// ErrUnavailable.
type Client struct {
	redis     redis.UniversalClient
	tasks     *asynq.Client
	inspector *asynq.Inspector
	statuses  statuses
	headers   func(ctx context.Context) map[string]string
	keys      seal.Keys
}

// Receipt is what a producer learns when it has enqueued a job.
type Receipt struct {
	ID    string    `json:"id"`
	Queue string    `json:"queue"`
	State job.State `json:"state"`
	// Existing says that the id was there before: nothing was enqueued.
	Existing bool `json:"existing,omitempty"`
}

// NewClient makes a client; it connects to nothing. Close it.
func NewClient(opts ClientOptions) (*Client, error) {
	clients, err := opts.Connection.open(1)
	if err != nil {
		return nil, err
	}
	if opts.StatusTTL == 0 {
		opts.StatusTTL = DefaultStatusTTL
	}
	if opts.Headers == nil {
		opts.Headers = func(context.Context) map[string]string { return nil }
	}
	return &Client{
		redis:     clients[0],
		headers:   opts.Headers,
		keys:      opts.Keys,
		tasks:     asynq.NewClientFromRedisClient(clients[0]),
		inspector: asynq.NewInspectorFromRedisClient(clients[0]),
		statuses:  statuses{redis: clients[0], ttl: opts.StatusTTL},
	}, nil
}

// Close ends the connections.
func (c *Client) Close() error { return c.redis.Close() }

// Ping reports whether Redis answers.
func (c *Client) Ping(ctx context.Context) error {
	if err := c.redis.Ping(ctx).Err(); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

// Enqueue checks a job and puts it into a queue. A job without created_at gets
// it. If the id is known already nothing happens but that the receipt says so;
// it may be called again after any error. An invalid job is a *job.Error.
func (c *Client) Enqueue(ctx context.Context, j *job.Job, queue string) (Receipt, error) {
	if !validQueue.MatchString(queue) {
		return Receipt{}, fmt.Errorf("%w: %q", ErrQueueName, queue)
	}
	payload, err := encode(j)
	if err != nil {
		return Receipt{}, err
	}
	sealed, err := c.keys.Seal(payload, queue, j.ID)
	if err != nil {
		return Receipt{}, err
	}
	// The status comes first: it is what holds the id across all queues. A
	// producer that dies in between leaves a status without a task, which the
	// next call mends, since the task's id is unique too.
	receipt := Receipt{ID: j.ID, Queue: queue, State: job.Queued}
	claimed, err := c.statuses.claim(ctx, Status{ID: j.ID, Queue: queue, State: job.Queued})
	if err != nil {
		return Receipt{}, err
	}
	if !claimed {
		known, err := c.statuses.get(ctx, j.ID)
		switch {
		case errors.Is(err, ErrUnknownJob): // it expired this moment
		case err != nil:
			return Receipt{}, err
		default:
			receipt.State = known.State
			if known.Queue != "" {
				receipt.Queue = known.Queue
			}
		}
		if known.State.Final() {
			receipt.Existing = true
			return receipt, nil
		}
	}
	if receipt.Queue != queue {
		if sealed, err = c.keys.Seal(payload, receipt.Queue, j.ID); err != nil {
			return Receipt{}, err
		}
	}
	_, err = c.tasks.EnqueueContext(ctx, asynq.NewTaskWithHeaders(job.TaskType, sealed, c.headers(ctx)),
		asynq.TaskID(j.ID), asynq.Queue(receipt.Queue), asynq.MaxRetry(taskMaxRetry), asynq.Timeout(taskTimeout), asynq.Retention(0))
	switch {
	case errors.Is(err, asynq.ErrTaskIDConflict):
		receipt.Existing = true
	case err != nil:
		return Receipt{}, unavailable("enqueue", err)
	}
	return receipt, nil
}

func encode(j *job.Job) ([]byte, error) {
	if err := j.Validate(job.Limits{}); err != nil {
		return nil, err
	}
	sent := *j
	if sent.CreatedAt == nil {
		now := time.Now().UTC().Truncate(time.Millisecond)
		sent.CreatedAt = &now
	}
	payload, err := json.Marshal(&sent)
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	if len(payload) > job.MaxPayload {
		return nil, job.Errorf(job.InvalidJob, "the job must be at most %d bytes of JSON", job.MaxPayload)
	}
	return payload, nil
}

// Status tells where a job stands; ErrUnknownJob if nothing is known of it.
func (c *Client) Status(ctx context.Context, id string) (Status, error) {
	status, err := c.statuses.get(ctx, id)
	if !errors.Is(err, ErrUnknownJob) {
		return status, err
	}
	return c.waiting(id)
}

// waiting finds the task of a job that has no status yet: one from a producer
// that is not this client.
func (c *Client) waiting(id string) (Status, error) {
	task, err := c.task(id)
	if err != nil {
		return Status{}, err
	}
	status := Status{ID: id, Queue: task.Queue, State: job.Queued}
	if task.State == asynq.TaskStateActive {
		status.State = job.Running
	}
	return status, nil
}

// task finds the asynq task of a job; ErrUnknownJob if there is none.
func (c *Client) task(id string) (*asynq.TaskInfo, error) {
	queues, err := c.inspector.Queues()
	if err != nil {
		return nil, unavailable("list queues", err)
	}
	for _, queue := range queues {
		task, err := c.inspector.GetTaskInfo(queue, id)
		switch {
		case err == nil:
			return task, nil
		case !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound):
			return nil, unavailable("find task", err)
		}
	}
	return nil, ErrUnknownJob
}

// Waiting gives a job that no worker holds, as far as it can be read; it is nil
// when a worker has it or there is none. seal.ErrNoKey and seal.ErrShut: it waits,
// and cannot be read here.
func (c *Client) Waiting(id string) (*job.Job, error) {
	task, err := c.task(id)
	if errors.Is(err, ErrUnknownJob) || err == nil && task.State == asynq.TaskStateActive {
		return nil, nil //nolint:nilnil // said above
	}
	if err != nil {
		return nil, err
	}
	j, _, err := c.decode(task.Payload, task.Queue, id)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrShut) {
		return nil, err
	}
	return j, nil
}

// decode reads as much of a job as can be read, and reports whether that is all:
// whoever ends it, or asks whose it is, does not care what else is wrong with it.
// The error is of opening it.
func (c *Client) decode(payload []byte, queue, id string) (j *job.Job, whole bool, err error) {
	opened, err := c.keys.Open(payload, queue, id)
	j, _ = job.Decode(opened)
	j.ID = id
	return j, json.Valid(opened), err
}

// Withdraw takes a waiting job out of its queue after its outcome was recorded,
// and publishes the outcome. A worker that takes it meanwhile finds the record.
func (c *Client) Withdraw(ctx context.Context, id string, outcome job.Outcome) error {
	task, err := c.task(id)
	switch {
	case err == nil:
		err = c.inspector.DeleteTask(task.Queue, id)
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
			return nil // a worker has it now, and will end it
		}
	case !errors.Is(err, ErrUnknownJob):
		return err
	}
	status, err := c.statuses.get(ctx, id)
	if err != nil && !errors.Is(err, ErrUnknownJob) {
		return err
	}
	status.ID, status.State, status.Stage, status.ErrorCode, status.ResultKey = id, outcome.State, "", outcome.Code, outcome.RecordKey
	_, err = c.statuses.put(ctx, status)
	return err
}

// Cancel asks that a job ends, wherever it is, and returns how it stood: the
// worker that has it, or that takes it next, ends it; with Waiting and Withdraw
// the caller can end one that no worker has. ErrFinished, with the
// status, if there is nothing left to end; ErrUnknownJob.
func (c *Client) Cancel(ctx context.Context, id string) (Status, error) {
	status, err := c.Status(ctx, id)
	if err != nil {
		return status, err
	}
	if status.State.Final() {
		return status, ErrFinished
	}
	return status, c.markCancelled(ctx, id)
}

func (c *Client) markCancelled(ctx context.Context, id string) error {
	if err := c.redis.Set(ctx, cancelKey(id), "1", cancelTTL).Err(); err != nil {
		return unavailable("mark as cancelled", err)
	}
	if err := c.redis.Publish(ctx, cancelChannel, id).Err(); err != nil {
		return unavailable("announce cancel", err)
	}
	return nil
}
