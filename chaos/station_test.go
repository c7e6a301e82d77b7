package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/chaos/faults"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
)

// marker stands in every prompt, and may stand nowhere else.
const marker = "a-prompt-that-nobody-may-see"

// servers are a Redis and an S3 server that stations share.
type servers struct {
	redis *testservices.RedisServer
	s3    *testservices.S3Server
}

// station is a database of a Redis and a part of a bucket, with what stands
// before them, and the workers on them.
type station struct {
	t       *testing.T
	servers servers
	db      int
	prefix  string
	dir     string
	environ []string

	link    *faults.Link // to Redis
	store   *faults.Store
	journal *os.File

	redis  *redis.Client // straight
	client *queue.Client // straight
	bucket *s3.Bucket    // straight

	workers []*worker
}

func newStation(t *testing.T, shared servers, db int) *station {
	t.Helper()
	s := &station{t: t, servers: shared, db: db, prefix: fmt.Sprintf("station-%d", db), dir: t.TempDir()}
	must(t, os.Mkdir(s.scratch(), 0o700))
	var err error
	s.journal, err = os.Create(filepath.Join(s.dir, "journal.jsonl"))
	must(t, err)
	s.link, err = faults.NewLink(shared.redis.Addr)
	must(t, err)
	s.store, err = faults.NewStore(shared.s3.Endpoint, s.journal)
	must(t, err)
	s.redis = redis.NewClient(&redis.Options{Addr: shared.redis.Addr, DB: db})
	s.client, err = queue.NewClient(queue.ClientOptions{Connection: queue.Connection{URL: s.redisURL(shared.redis.Addr)}})
	must(t, err)
	s.bucket, err = s3.Open(s3.Options{
		Endpoint: shared.s3.Endpoint, Bucket: shared.s3.Bucket, Prefix: s.prefix, AccessKey: shared.s3.AccessKey, SecretKey: shared.s3.SecretKey,
	})
	must(t, err)
	t.Cleanup(func() {
		for _, w := range s.workers {
			w.kill()
		}
		s.link.Close()
		s.store.Close()
		_ = s.client.Close()
		_ = s.redis.Close()
		_ = s.bucket.Close()
		_ = s.journal.Close()
		if t.Failed() {
			for _, w := range s.workers {
				t.Log(w.tail())
			}
		}
	})
	// The mark names the job, and a picture is compared with that of another job
	// that asks for the same.
	s.environ = []string{
		"IMGUS_ENGINE_LIBRARY=" + testservices.ONNXRuntime(t), "IMGUS_ENGINE_DEVICES=cpu", "IMGUS_ENGINE_THREADS=1", "IMGUS_MARK_ENABLED=false",
		"IMGUS_MODELS_DIRECTORY=" + models(t), "TMPDIR=" + s.scratch(), "IMGUS_LOG_FORMAT=json",
		"IMGUS_STORAGE_BUCKET=" + shared.s3.Bucket, "IMGUS_STORAGE_PREFIX=" + s.prefix, "IMGUS_STORAGE_TLS=false",
		"IMGUS_STORAGE_ACCESS_KEY=" + shared.s3.AccessKey, "IMGUS_STORAGE_SECRET_KEY=" + shared.s3.SecretKey,
		"IMGUS_STORAGE_ENDPOINT=" + s.store.Addr(), "IMGUS_HTTP_ADDRESS=",
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func models(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../testdata/models")
	must(t, err)
	return dir
}

func (s *station) scratch() string { return filepath.Join(s.dir, "scratch") }

func (s *station) redisURL(addr string) string { return fmt.Sprintf("redis://%s/%d", addr, s.db) }

// start starts a worker behind the link.
func (s *station) start(environ ...string) *worker {
	s.t.Helper()
	return s.startAt(s.link.Addr(), environ...)
}

// startAt starts a worker that reaches Redis at the address.
func (s *station) startAt(addr string, environ ...string) *worker {
	s.t.Helper()
	name := fmt.Sprintf("worker-%d", len(s.workers))
	all := append([]string{"IMGUS_REDIS_URL=" + s.redisURL(addr)}, s.environ...)
	w := startWorker(s.t, name, s.dir, append(all, environ...))
	s.workers = append(s.workers, w)
	return w
}

// enqueue puts a job, and its photo if it names one, as a producer does: again
// after any error.
func (s *station) enqueue(ctx context.Context, j *job.Job, name string, photo []byte) error {
	if j.Input != nil {
		if err := s.bucket.Put(ctx, *j.Input, photo, storage.PutOptions{}); err != nil {
			return err
		}
	}
	return await(2*time.Minute, func() (bool, error) {
		_, err := s.client.Enqueue(ctx, j, name)
		return err == nil, err
	})
}

// tasks counts what asynq still has of jobs.
func (s *station) tasks(ctx context.Context) (int, error) {
	keys, err := s.redis.Keys(ctx, "asynq:{*}:t:*").Result()
	return len(keys), err
}

// settle stops the workers, which must all end well, sweeps as if two days had
// passed, and audits. Only where workers were killed may the sweep find
// something.
func (s *station) settle(expected []byte, killed bool) {
	s.t.Helper()
	for _, w := range s.workers {
		if !w.alive() {
			continue
		}
		if err := w.stop(time.Minute); err != nil {
			s.t.Error(err)
		}
	}
	s.age(48 * time.Hour)
	worker, auditor := programs(s.t)
	sweep := exec.Command(worker, "sweep")
	sweep.Env, sweep.Dir = s.environ, s.dir
	// Straight, since what is swept is the question, not how.
	sweep.Env = append(sweep.Env, "IMGUS_STORAGE_ENDPOINT="+s.servers.s3.Endpoint, "IMGUS_REDIS_URL="+s.redisURL(s.servers.redis.Addr))
	if swept, err := sweep.Output(); err != nil || !killed && len(swept) > 0 {
		s.t.Errorf("worker sweep: %v, found\n%s", err, swept)
	}
	file := filepath.Join(s.dir, "expected.jsonl")
	must(s.t, os.WriteFile(file, expected, 0o600))
	server := s.servers.s3
	audit := exec.Command(auditor, "-redis", s.redisURL(s.servers.redis.Addr),
		"-store", fmt.Sprintf("http://%s:%s@%s/%s", server.AccessKey, server.SecretKey, server.Endpoint, server.Bucket),
		"-prefix", s.prefix, "-expected", file, "-journal", s.journal.Name(), "-scratch", s.scratch(), "-secrets", marker)
	output, err := audit.CombinedOutput()
	if err != nil {
		s.t.Errorf("auditor: %v", err)
	}
	if err != nil || testing.Verbose() {
		s.t.Logf("\n%s", output)
	}
	for _, w := range s.workers {
		if log, err := os.ReadFile(w.log); err != nil || bytes.Contains(log, []byte(marker)) {
			s.t.Errorf("%s: the prompt is in its log, %v", w.name, err)
		}
	}
}

// age makes every object of the station older.
func (s *station) age(by time.Duration) {
	s.t.Helper()
	err := filepath.WalkDir(filepath.Join(s.servers.s3.Folder, s.prefix), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		then := time.Now().Add(-by)
		return os.Chtimes(path, then, then)
	})
	must(s.t, err)
}

// expect has `worker generate` make the jobs, whose photos are paths. What it
// returns waits for the records that it prints.
func expect(t *testing.T, jobs []*job.Job) func() []byte {
	t.Helper()
	worker, _ := programs(t)
	var lines, output, errs bytes.Buffer
	for _, j := range jobs {
		must(t, json.NewEncoder(&lines).Encode(j))
	}
	generate := exec.CommandContext(t.Context(), worker, "generate", "--models", models(t), "--jobs", "-", "--output", t.TempDir(), "--json")
	generate.Stdin, generate.Stdout, generate.Stderr = &lines, &output, &errs
	generate.Env = []string{"IMGUS_ENGINE_LIBRARY=" + testservices.ONNXRuntime(t), "IMGUS_ENGINE_DEVICES=cpu", "IMGUS_ENGINE_THREADS=1", "IMGUS_MARK_ENABLED=false"}
	must(t, generate.Start())
	return func() []byte {
		t.Helper()
		if err := generate.Wait(); err != nil {
			t.Fatalf("worker generate: %v\n%s", err, errs.String())
		}
		return output.Bytes()
	}
}
