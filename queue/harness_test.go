package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// secret stands in every prompt; nowhere else may it appear.
const secret = "a-very-private-prompt"

// handler has a store of records, as the processor has: the first
// outcome of a job stands.
type handler struct {
	process func(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error)
	refuse  func(reason *job.Error) error

	mu       sync.Mutex
	records  map[string]job.Outcome
	attempts map[string][]job.Attempt
	refused  map[string][]job.Code
	now      int
	most     int
}

func newHandler(process func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error)) *handler {
	return &handler{
		process: process,
		records: map[string]job.Outcome{}, attempts: map[string][]job.Attempt{}, refused: map[string][]job.Code{},
	}
}

func (h *handler) Process(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
	h.mu.Lock()
	h.attempts[j.ID] = append(h.attempts[j.ID], a)
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
	}()
	o, err := h.process(ctx, j, a, report)
	if err != nil || !o.State.Final() {
		return o, err
	}
	return h.record(j.ID, o), nil
}

func (h *handler) Refuse(_ context.Context, j *job.Job, _ job.Attempt, reason *job.Error) (job.Outcome, error) {
	h.mu.Lock()
	h.refused[j.ID] = append(h.refused[j.ID], reason.Code)
	h.mu.Unlock()
	if h.refuse != nil {
		if err := h.refuse(reason); err != nil {
			return job.Outcome{}, err
		}
	}
	return h.record(j.ID, job.Outcome{State: job.Failed, Code: reason.Code}), nil
}

func (h *handler) record(id string, o job.Outcome) job.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.records[id]; !ok {
		o.RecordKey = "results/" + id + "/result.json"
		h.records[id] = o
	}
	return h.records[id]
}

func (h *handler) seen(id string) (attempts []job.Attempt, refused []job.Code) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(attempts, h.attempts[id]...), append(refused, h.refused[id]...)
}

// running is how many jobs are at work.
func (h *handler) running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *handler) atOnce() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.most
}

func done(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
	return job.Outcome{State: job.Done}, nil
}

// polite waits for its context and records a cancellation.
func polite(ctx context.Context, _ *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, job.ErrCancelled) {
		return job.Outcome{}, cause
	}
	return job.Outcome{State: job.Cancelled}, nil
}

// oneOfEach fails the first attempt of fails-once, waits for the cancel of
// cancelled, takes its time over times-out, and has done all others.
func oneOfEach(h *handler) func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
	return func(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
		report(job.Progress{Stage: job.StageText})
		switch n, _ := h.seen(j.ID); {
		case j.ID == "cancelled":
			return polite(ctx, j, a, report)
		case j.ID == "times-out":
			time.Sleep(1500 * time.Millisecond)
		case j.ID == "fails-once" && len(n) == 1:
			return job.Outcome{}, job.Errorf(job.StorageUnavailable, "storage is away")
		}
		return job.Outcome{State: job.Done}, nil
	}
}

// servers runs a test on the in-memory Redis and on a real one.
func servers(t *testing.T, test func(t *testing.T, at queue.Connection)) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, queue.Connection{URL: miniredis.RunT(t).Addr()})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, queue.Connection{URL: testservices.StartRedis(t, testservices.RedisOptions{}).Addr})
	})
}

func options(at queue.Connection, h queue.Handler) queue.Options {
	return queue.Options{
		Connection: at, Handler: h, Queues: map[string]int{"interactive": 6, "batch": 1},
		Concurrency: 1, MaxAttempts: 3, Timeout: time.Minute, ShutdownGrace: 10 * time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

// logged is a log to look through.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// worker is a running consumer.
type worker struct {
	*queue.Consumer
	stop func() // tells it to stop and waits until it has
	tell func() // tells it to stop
	done <-chan struct{}
}

func start(t testing.TB, opts queue.Options, adjust ...func(*queue.Consumer)) worker {
	t.Helper()
	c, err := queue.NewConsumer(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range adjust {
		change(c)
	}
	ctx, tell := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	w := worker{Consumer: c, tell: tell, done: done, stop: func() { tell(); <-done }}
	t.Cleanup(w.stop)
	return w
}

func client(t testing.TB, at queue.Connection) *queue.Client {
	t.Helper()
	c, err := queue.NewClient(queue.ClientOptions{Connection: at})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func inspect(t testing.TB, at queue.Connection) redis.UniversalClient {
	t.Helper()
	r, err := at.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func newJob(id string) *job.Job {
	prompt := secret
	return &job.Job{Version: 1, ID: id, Kind: job.TextToImage, Model: "demo", Prompt: &prompt}
}

func enqueue(t testing.TB, c *queue.Client, id string) queue.Receipt {
	t.Helper()
	r, err := c.Enqueue(t.Context(), newJob(id), "interactive")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually waits for a condition that must come true.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func waitState(t testing.TB, c *queue.Client, id string, want job.State) queue.Status {
	t.Helper()
	var s queue.Status
	eventually(t, fmt.Sprintf("%s to be %s", id, want), func() bool {
		s, _ = c.Status(t.Context(), id)
		return s.State == want
	})
	return s
}

// leftovers lists what asynq keeps of tasks: task hashes, and what stands in
// its lists and sets.
func leftovers(t testing.TB, r redis.UniversalClient) []string {
	t.Helper()
	var left []string
	for _, key := range keys(t, r) {
		switch {
		case strings.Contains(key, "}:t:"):
			left = append(left, key)
		case strings.HasPrefix(key, "asynq:{"):
			for _, suffix := range []string{":pending", ":active", ":lease", ":retry", ":scheduled", ":archived", ":completed"} {
				if strings.HasSuffix(key, suffix) {
					left = append(left, key) // Redis deletes empty ones
				}
			}
		}
	}
	return left
}

// checkResidue looks through all of Redis after the end of every job.
func checkResidue(t testing.TB, r redis.UniversalClient) {
	t.Helper()
	eventually(t, "asynq to let go of every task", func() bool { return len(leftovers(t, r)) == 0 })
	for _, key := range keys(t, r) {
		if containsSecret(t, r, key) {
			t.Errorf("%s holds a prompt", key)
		}
		if ttl := r.TTL(t.Context(), key).Val(); strings.HasPrefix(key, "imgus:") && ttl < 0 {
			t.Errorf("%s does not expire", key)
		}
	}
}

func keys(t testing.TB, r redis.UniversalClient) []string {
	t.Helper()
	var mu sync.Mutex
	var all []string
	list := func(ctx context.Context, node *redis.Client) error {
		found, err := node.Keys(ctx, "*").Result()
		mu.Lock()
		defer mu.Unlock()
		all = append(all, found...)
		return err
	}
	var err error
	switch c := r.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), list)
	case *redis.Client:
		err = list(t.Context(), c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func containsSecret(t testing.TB, r redis.UniversalClient, key string) bool {
	t.Helper()
	return strings.Contains(dump(t, r, key), secret)
}

func dump(t testing.TB, r redis.UniversalClient, key string) string {
	t.Helper()
	ctx := t.Context()
	switch kind := r.Type(ctx, key).Val(); kind {
	case "string":
		return r.Get(ctx, key).Val()
	case "hash":
		return fmt.Sprint(r.HGetAll(ctx, key).Val())
	case "list":
		return fmt.Sprint(r.LRange(ctx, key, 0, -1).Val())
	case "set":
		return fmt.Sprint(r.SMembers(ctx, key).Val())
	case "zset":
		return fmt.Sprint(r.ZRange(ctx, key, 0, -1).Val())
	case "none":
		return "" // it has just expired
	default:
		t.Fatalf("%s is a %s", key, kind)
		return ""
	}
}
