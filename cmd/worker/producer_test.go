package main

import (
	"testing"

	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
)

// foreignProducer enqueues as a backend does that does not use our client, and
// so can enqueue anything.
type foreignProducer struct {
	t      *testing.T
	client *asynq.Client
}

func newForeignProducer(t *testing.T, url string) *foreignProducer {
	t.Helper()
	options, err := asynq.ParseRedisURI(url)
	if err != nil {
		t.Fatal(err)
	}
	client := asynq.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return &foreignProducer{t, client}
}

func (p *foreignProducer) enqueue(id, payload string) {
	p.t.Helper()
	if _, err := p.client.Enqueue(asynq.NewTask(job.TaskType, []byte(payload)), asynq.TaskID(id), asynq.Queue("batch")); err != nil {
		p.t.Fatal(err)
	}
}
