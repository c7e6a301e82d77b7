package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
)

// stubEngine makes a few bytes, or works until it is told to stop.
type stubEngine struct{}

func (stubEngine) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	switch {
	case strings.Contains(r.Job.ID, "running"):
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case strings.Contains(r.Job.ID, "failed"):
		return nil, job.Errorf(job.InputInvalid, "input: no picture")
	}
	return &inference.Result{
		Model: job.ModelInfo{Name: r.Job.Model}, Timings: job.Timings{},
		Images: []inference.Image{{Data: []byte("picture of " + r.Job.ID), Format: job.PNG, Width: 8, Height: 8}},
	}, nil
}

// crowd is a subject with many jobs in every state, and another beside it, on a
// real Redis and in a real bucket that keeps versions.
type crowd struct {
	*station

	processor *processor.Processor
	foreign   *asynq.Client
	upload    func(key string) // begins an upload in parts and leaves it
	jobs      []*job.Job       // the subject's
	others    []*job.Job
	running   []string
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	address, server := testservices.StartRedis(t, testservices.RedisOptions{}), testservices.StartS3With(t, testservices.S3Options{Versions: true})
	owner, err := minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.EnableVersioning(t.Context(), server.Bucket); err != nil {
		t.Fatal(err)
	}
	s := &station{url: "redis://" + address.Addr, redis: redis.NewClient(&redis.Options{Addr: address.Addr})}
	t.Cleanup(func() { _ = s.redis.Close() })
	if s.bucket, err = s3.Open(s3.Options{Endpoint: server.Endpoint, Bucket: server.Bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.bucket.Close() })
	if s.client, err = queue.NewClient(queue.ClientOptions{Connection: queue.Connection{URL: s.url}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	s.program = &program{t: t, environ: append([]string{
		"IMGUS_REDIS_URL=" + s.url, "IMGUS_STORAGE_ENDPOINT=" + server.Endpoint, "IMGUS_STORAGE_BUCKET=" + server.Bucket,
		"IMGUS_STORAGE_ACCESS_KEY=" + server.AccessKey, "IMGUS_STORAGE_SECRET_KEY=" + server.SecretKey, "IMGUS_STORAGE_TLS=false",
	}, rightsEnviron...)}
	c := &crowd{station: s, foreign: asynq.NewClientFromRedisClient(s.redis)}
	c.upload = func(key string) {
		core := minio.Core{Client: owner}
		id, err := core.NewMultipartUpload(t.Context(), server.Bucket, key, minio.PutObjectOptions{})
		if err == nil {
			_, err = core.PutObjectPart(t.Context(), server.Bucket, key, id, 1, strings.NewReader("half"), 4, minio.PutObjectPartOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.processor = processor.New(processor.Options{Bucket: s.bucket, Engine: stubEngine{}, SubjectKey: []byte(subjectKey), Log: slog.New(slog.DiscardHandler)})
	return c
}

// serve starts a worker with the stub engine.
func (c *crowd) serve() (stop func()) {
	c.t.Helper()
	consumer, err := queue.NewConsumer(queue.Options{
		Connection: queue.Connection{URL: c.url}, Queues: map[string]int{"interactive": 6, "batch": 1}, Concurrency: 8, MaxAttempts: 3,
		Timeout: 10 * time.Minute, ShutdownGrace: 10 * time.Second, Handler: c.processor, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := consumer.Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	c.t.Cleanup(stop)
	return stop
}

func (c *crowd) put(ctx context.Context, key, data string) error {
	return c.bucket.Put(ctx, key, []byte(data), storage.PutOptions{})
}

// enqueue puts a job's task into Redis as any producer may.
func (c *crowd) enqueue(j *job.Job, opts ...asynq.Option) error {
	payload, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = c.foreign.Enqueue(asynq.NewTask(job.TaskType, payload), append([]asynq.Option{asynq.TaskID(j.ID), asynq.Queue("batch"), asynq.MaxRetry(1000)}, opts...)...)
	return err
}

// add brings one job into a state.
func (c *crowd) add(ctx context.Context, who, state string, n int) (*job.Job, error) {
	j := &job.Job{
		Version: 1, ID: fmt.Sprintf("%s-%s-%d", who, state, n), Kind: job.ImageToImage, Model: "m", Prompt: new("a private wish"),
		Input: new(fmt.Sprintf("inputs/private name of %s/%s %d.jpg", who, state, n)), Subject: &who, KeepInput: state == "kept",
	}
	if err := c.put(ctx, *j.Input, "photo"); err != nil {
		return nil, err
	}
	attempt := job.Attempt{ID: queue.NewID(), Number: 1}
	ignore := func(job.Progress) {}
	switch state {
	case "done", "kept", "failed":
		_, err := c.processor.Process(ctx, j, attempt, ignore)
		return j, err
	case "cancelled":
		cancelled, cancel := context.WithCancelCause(ctx)
		cancel(job.ErrCancelled)
		_, err := c.processor.Process(cancelled, j, attempt, ignore)
		return j, err
	case "half":
		// Its worker died between the images and the record; the reaper put it back.
		if err := c.put(ctx, storage.ImageKey(j.ID, attempt.ID, 0, job.PNG), "picture"); err != nil {
			return nil, err
		}
		if err := c.put(ctx, storage.SubjectKey(storage.Pseudonym([]byte(subjectKey), who), j.ID), `{"version":1,"id":"`+j.ID+`"}`); err != nil {
			return nil, err
		}
		return j, c.enqueue(j, asynq.ProcessIn(time.Hour))
	case "queued":
		return j, c.enqueue(j)
	case "scheduled":
		return j, c.enqueue(j, asynq.ProcessIn(time.Hour))
	case "archived":
		if err := c.enqueue(j, asynq.ProcessIn(time.Hour)); err != nil {
			return nil, err
		}
		return j, asynq.NewInspectorFromRedisClient(c.redis).ArchiveTask("batch", j.ID)
	}
	return j, c.enqueue(j, asynq.Queue("interactive")) // running
}

// fill brings n jobs of the user's into the state.
func (c *crowd) fill(who, state string, n int) (jobs []*job.Job) {
	c.t.Helper()
	group, ctx := errgroup.WithContext(c.t.Context())
	group.SetLimit(16)
	jobs = make([]*job.Job, n)
	for i := range jobs {
		group.Go(func() (err error) {
			jobs[i], err = c.add(ctx, who, state, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		c.t.Fatalf("%s: %v", state, err)
	}
	return jobs
}

// TestEraseMany: of a subject with a thousand jobs in every state nothing is left
// but erased records, and nothing comes back, although the erasure is killed
// again and again and every job is delivered once more.
func TestEraseMany(t *testing.T) {
	c := newCrowd(t)
	counts := map[string]int{"done": 300, "kept": 60, "failed": 120, "cancelled": 100, "half": 100, "scheduled": 130, "archived": 6, "queued": 180, "running": 4}
	for state, n := range counts {
		if state != "running" && state != "queued" {
			c.jobs = append(c.jobs, c.fill(aSubject, state, n)...)
		}
	}
	c.others = append(c.fill("somebody-else", "done", 20), c.fill("somebody-else", "scheduled", 5)...)
	stop := c.serve()
	for _, j := range c.fill(aSubject, "running", counts["running"]) {
		c.jobs, c.running = append(c.jobs, j), append(c.running, j.ID)
	}
	c.eventually("four jobs run", func() bool { return len(c.entries("active")) >= 4 })
	c.jobs = append(c.jobs, c.fill(aSubject, "queued", counts["queued"])...)
	c.others = append(c.others, c.fill("somebody-else", "queued", 20)...)

	// Killed at any moment it is run again.
	killed := 0
	for wait := 100 * time.Millisecond; wait < 2*time.Second; wait = wait * 3 / 2 {
		process := c.asProcess("erase", "--subject", aSubject)
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(wait)
		_ = process.Process.Kill()
		if process.Wait() != nil {
			killed++
		}
	}
	begun := time.Now()
	stdout, stderr := c.must(0, "erase", "--subject", aSubject)
	took := time.Since(begun)
	var signed privacy.Signed
	var receipt privacy.Receipt
	if err := errors.Join(json.Unmarshal([]byte(stdout), &signed), json.Unmarshal(signed.Receipt, &receipt)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout+stderr, aSubject) || strings.Contains(stdout+stderr, "private") {
		t.Errorf("it tells %s%s", stdout, stderr)
	}
	c.wantErased("after the erasure", nil)

	// A producer that saw none of it sends everything once more, photos too.
	for _, j := range c.jobs {
		if err := c.put(t.Context(), *j.Input, "photo"); err != nil {
			t.Fatal(err)
		}
		if err := c.enqueue(j); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the duplicates to end", func() bool { return len(c.entries("")) == 5 }) // the other's scheduled ones
	stop()
	c.wantErased("after the duplicates", map[string]string{"state": "erased"})
	for _, j := range c.others {
		r, err := readRecord(t.Context(), c.bucket, j.ID)
		if scheduled := strings.Contains(j.ID, "scheduled"); scheduled != errors.Is(err, storage.ErrNotFound) || err == nil && r.State != job.Done {
			t.Errorf("%s, another's: %+v, %v", j.ID, r, err)
		}
	}
	t.Logf("%d jobs: killed %d times; the last run took %s and says %+v", len(c.jobs), killed, took.Round(time.Millisecond), receipt)
}

// TestEraseOnce is the same in one go, for the figures.
func TestEraseOnce(t *testing.T) {
	c := newCrowd(t)
	for state, n := range map[string]int{"done": 40, "half": 10, "scheduled": 10, "queued": 10, "failed": 10} {
		c.jobs = append(c.jobs, c.fill(aSubject, state, n)...)
	}
	before := 0
	for v, err := range c.bucket.Versions(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(v.Key, storage.SubjectPrefix) {
			before++
		}
	}
	c.upload(*c.jobs[0].Input)
	c.upload("inputs/somebody else's")
	stdout, _ := c.must(0, "erase", "--subject", aSubject)
	var signed privacy.Signed
	var receipt privacy.Receipt
	if err := errors.Join(json.Unmarshal([]byte(stdout), &signed), json.Unmarshal(signed.Receipt, &receipt)); err != nil {
		t.Fatal(err)
	}
	c.wantErased("after the erasure", nil)
	uploads := 0
	for u, err := range c.bucket.Uploads(t.Context()) {
		if uploads++; err != nil || u.Key != "inputs/somebody else's" {
			t.Errorf("left: %+v, %v", u, err)
		}
	}
	if receipt.Uploads != 1 || uploads != 1 {
		t.Errorf("%d uploads aborted, %d left", receipt.Uploads, uploads)
	}
	// What the receipt counts is what was there, but for the index.
	if receipt.Jobs.Count != 80 || receipt.QueueEntries != 30 || receipt.Objects.Count != before {
		t.Errorf("receipt is %+v; %d objects were there", receipt, before)
	}
}

func (c *crowd) eventually(what string, condition func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// entries lists the jobs in the queues, all or those in workers' hands.
func (c *crowd) entries(state string) (ids []string) {
	c.t.Helper()
	for e, err := range c.client.Entries(c.t.Context()) {
		if err != nil {
			c.t.Fatal(err)
		}
		if state == "" || e.Active {
			ids = append(ids, e.Job.ID)
		}
	}
	return ids
}

// wantErased checks that each of the subject's jobs has an erased record in one
// version, and that nothing else of the subject is in the bucket, versions, marks
// and unfinished uploads included, or in Redis, but statuses with the given
// fields.
func (c *crowd) wantErased(when string, status map[string]string) {
	c.t.Helper()
	ctx := c.t.Context()
	who := storage.Pseudonym([]byte(subjectKey), aSubject)
	records := map[string][]storage.Version{}
	for v, err := range c.bucket.Versions(ctx, "") {
		if err != nil {
			c.t.Fatal(err)
		}
		if !strings.Contains(v.Key, aSubject) && !strings.Contains(v.Key, who) {
			continue
		}
		if !strings.HasSuffix(v.Key, "/result.json") || v.Deleted {
			c.t.Errorf("%s: left in the bucket: %+v", when, v)
			continue
		}
		// versitygw v1.8.0 gives the one on the edge of a page twice.
		if !slices.Contains(records[v.Key], v) {
			records[v.Key] = append(records[v.Key], v)
		}
		data, err := c.bucket.Get(ctx, v.Key, storage.MaxRecord)
		var fields map[string]any
		if err != nil || json.Unmarshal(data, &fields) != nil || fields["state"] != "erased" || len(fields) != 4 {
			c.t.Errorf("%s: record is %s, %v", when, data, err)
		}
	}
	for _, j := range c.jobs {
		if found := records[storage.RecordKey(j.ID)]; len(found) != 1 {
			c.t.Errorf("%s: %s has these records: %+v", when, j.ID, found)
		}
	}
	keys, err := c.redis.Keys(ctx, "*").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, key := range keys {
		dump := c.redis.Dump(ctx, key).Val()
		if strings.Contains(key+dump, aSubject) && status == nil {
			c.t.Errorf("%s: left in Redis: %s", when, key)
		}
		if strings.Contains(dump, aSubject) && (strings.Contains(dump, "private") || !strings.HasPrefix(key, "imgus:")) {
			c.t.Errorf("%s: a job is left in Redis: %s", when, key)
		}
		if strings.HasPrefix(key, "imgus:job:"+aSubject) && status != nil && c.redis.HGet(ctx, key, "state").Val() != status["state"] {
			c.t.Errorf("%s: status of %s is %v", when, key, c.redis.HGetAll(ctx, key).Val())
		}
	}
}
