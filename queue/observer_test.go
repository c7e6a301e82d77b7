package queue_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

type mark struct{}

// watcher remembers what an observer is told.
type watcher struct {
	mu       sync.Mutex
	headers  []map[string]string
	ends     []queue.End
	ours     int // ends with the context that Began gave
	commands map[string]int
}

func (w *watcher) Began(ctx context.Context, _ string, headers map[string]string) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.headers = append(w.headers, headers)
	return context.WithValue(ctx, mark{}, true)
}

func (w *watcher) Ended(ctx context.Context, e queue.End) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, e)
	if ctx.Value(mark{}) != nil {
		w.ours++
	}
}

func (w *watcher) Dropped(string)   {}
func (w *watcher) Recovered(string) {}
func (w *watcher) Outage(bool)      {}

func (w *watcher) Command(name string, _ time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.commands[name]++
	} else {
		w.commands["failed "+name]++
	}
}

// An observer hears of each attempt from beginning to end, and its context is
// that of the work; the log says in one line how the job ended.
func TestObserver(t *testing.T) {
	t.Parallel()
	at := queue.Connection{URL: miniredis.RunT(t).Addr()}
	marked := make(chan bool, 10)
	h := newHandler(nil)
	h.process = func(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
		marked <- ctx.Value(mark{}) != nil
		report(job.Progress{Stage: job.StageDenoise, Step: 1, Steps: 2})
		if a.Number == 1 {
			return job.Outcome{}, job.Errorf(job.EngineFailed, "again")
		}
		record := &job.Record{
			ID: j.ID, State: job.Done, Attempt: &a, Engine: &job.EngineInfo{Device: "cuda:3"}, Images: make([]job.Image, 2),
			Parameters: &job.Parameters{Prompt: j.Prompt, Width: 640, Height: 512, Steps: 2}, Timings: job.Timings{job.StageText: 5, job.StageTotal: 7},
		}
		return job.Outcome{State: job.Done, Record: record}, nil
	}
	w, log := &watcher{commands: map[string]int{}}, &logged{}
	opts := options(at, h)
	opts.Observer, opts.Log = w, log.logger()
	producer, err := queue.NewClient(queue.ClientOptions{Connection: at, Headers: func(context.Context) map[string]string {
		return map[string]string{"traceparent": "00-1-2-01"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	enqueue(t, producer, "a")
	running := start(t, opts)
	waitState(t, producer, "a", job.Done)
	running.stop()

	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ends) != 2 || w.ours != 2 || !<-marked || !<-marked {
		t.Fatalf("%d ends, %d with the context of the beginning", len(w.ends), w.ours)
	}
	for _, headers := range w.headers {
		if headers["traceparent"] != "00-1-2-01" {
			t.Errorf("headers are %v", headers)
		}
	}
	first, second := w.ends[0], w.ends[1]
	if first.Result != queue.Retried || first.Code != job.EngineFailed || first.Stage != job.StageDenoise || first.Queue != "interactive" {
		t.Errorf("the first end is %+v", first)
	}
	if second.Result != queue.Finished || second.Outcome.State != job.Done || !second.Mine() || second.Attempt.Number != 2 {
		t.Errorf("the second end is %+v", second)
	}
	if w.commands["evalsha"] == 0 || w.commands["ping"] == 0 || w.commands["failed evalsha"] > 0 {
		t.Errorf("the commands are %v", w.commands)
	}

	ends := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, secret) {
			t.Errorf("the log has the prompt: %s", line)
		}
		if !strings.Contains(line, `"msg":"job ended"`) {
			continue
		}
		ends++
		for _, part := range []string{
			`"job_id":"a"`, `"queue":"interactive"`, `"attempt":2`, `"state":"done"`, `"code":""`, `"kind":"text-to-image"`, `"model":"demo"`,
			`"device":"cuda:3"`, `"images":2`, `"size":"640x512"`, `"steps":2`, `"waited_ms":`, `"timings_ms":{"text":5,"total":7}`,
		} {
			if !strings.Contains(line, part) {
				t.Errorf("the line of the end lacks %s: %s", part, line)
			}
		}
	}
	if ends != 1 {
		t.Errorf("%d lines tell of the end", ends)
	}
}

func TestConsumerDepths(t *testing.T) {
	t.Parallel()
	at := queue.Connection{URL: miniredis.RunT(t).Addr()}
	enqueue(t, client(t, at), "a")
	c, err := queue.NewConsumer(options(at, newHandler(done)))
	if err != nil {
		t.Fatal(err)
	}
	depths, err := c.Depths(t.Context())
	if err != nil || len(depths) != 2 || depths[0].Pending+depths[1].Pending != 1 {
		t.Errorf("%+v, %v", depths, err)
	}
}
