package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
)

// station is a real Redis and a real S3 server with a program that uses them.
type station struct {
	*program
	redis  *redis.Client
	url    string
	bucket *s3.Bucket
	client *queue.Client
}

func newStation(t *testing.T, environ ...string) *station {
	t.Helper()
	return newStationOn(t, testservices.Redis(t), testservices.S3(t), seal.Keys{}, environ...)
}

// newStationOn has servers of the test's own, and a producer that seals.
func newStationOn(t *testing.T, address string, server *testservices.S3Server, keys seal.Keys, environ ...string) *station {
	t.Helper()
	s := &station{url: "redis://" + address, redis: redis.NewClient(&redis.Options{Addr: address})}
	t.Cleanup(func() { _ = s.redis.Close() })
	var err error
	s.bucket, err = s3.Open(s3.Options{Endpoint: server.Endpoint, Bucket: server.Bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	s.client, err = queue.NewClient(queue.ClientOptions{Connection: queue.Connection{URL: s.url}, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	s.program = newProgram(t, append([]string{
		"IMGUS_REDIS_URL=" + s.url, "IMGUS_STORAGE_ENDPOINT=" + server.Endpoint, "IMGUS_STORAGE_BUCKET=" + server.Bucket,
		"IMGUS_STORAGE_ACCESS_KEY=" + server.AccessKey, "IMGUS_STORAGE_SECRET_KEY=" + server.SecretKey, "IMGUS_STORAGE_TLS=false",
		"IMGUS_MODELS_DIRECTORY=" + testModels, "IMGUS_LOG_LEVEL=warn",
	}, environ...)...)
	return s
}

// await waits until every job has ended.
func (s *station) await(ids []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	for _, id := range ids {
		for status, err := range s.client.Watch(ctx, id) {
			if err != nil {
				s.t.Fatalf("%s: %v after %+v", id, err, status)
			}
		}
	}
}

func (s *station) record(id string) *job.Record {
	s.t.Helper()
	r, err := readRecord(s.t.Context(), s.bucket, id)
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	return r
}

// clean checks that the queue holds nothing of any job any more, that what is
// left in Redis will expire, and that no input is left in the bucket.
func (s *station) clean(prompt string) {
	s.t.Helper()
	ctx := s.t.Context()
	// The last verdict may still be on its way.
	deadline := time.Now().Add(10 * time.Second)
	for left := s.leftovers(ctx); len(left) > 0; left = s.leftovers(ctx) {
		if time.Now().After(deadline) {
			s.t.Errorf("left in Redis: %v", left)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	keys, err := s.redis.Keys(ctx, "*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "imgus:") && s.redis.TTL(ctx, key).Val() <= 0 {
			s.t.Errorf("%s does not expire", key)
		}
		if dump := s.redis.Dump(ctx, key).Val(); strings.Contains(dump, prompt) {
			s.t.Errorf("%s holds the prompt", key)
		}
	}
	for object, err := range s.bucket.List(ctx, storage.InputPrefix) {
		s.t.Errorf("left in the bucket: %s, %v", object.Key, err)
	}
}

// leftovers lists asynq's keys that hold tasks.
func (s *station) leftovers(ctx context.Context) []string {
	var left []string
	for _, pattern := range []string{"asynq:{*}:t:*", "asynq:{*}:pending", "asynq:{*}:active", "asynq:{*}:lease", "asynq:{*}:scheduled", "asynq:{*}:retry", "asynq:{*}:archived", "asynq:{*}:completed"} {
		left = append(left, s.redis.Keys(ctx, pattern).Val()...)
	}
	return left
}

// TestTwoHundredJobs: all at once, with photos among them. Each gets the
// pictures that its job alone would get, and nothing is left over.
func TestTwoHundredJobs(t *testing.T) {
	scratch := t.TempDir()
	t.Setenv("TMPDIR", scratch)
	s := newStation(t)
	const prompt = "a large green star unlike any other"
	photo := readFile(t, golden, "photo-64x64-0.png")
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "photo.png"), photo)
	var ids, jobs []string
	for i := range 200 {
		id := fmt.Sprintf("job-%03d", i)
		line := fmt.Sprintf(`{"version":1,"id":%q,"kind":"text-to-image","model":"sd1","prompt":%q,"seed":%d,"steps":2,"width":64,"height":64,"images":%d`, id, prompt, 1000*i, 1+i%2)
		local := line + "}"
		if i%4 == 0 {
			with := strings.Replace(line, "text-to-image", "image-to-image", 1) + `,"strength":0.5,"input":"%s"}`
			key := storage.InputKey(id, "input")
			if err := s.bucket.Put(t.Context(), key, photo, storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			local, line = fmt.Sprintf(with, "photo.png"), fmt.Sprintf(with, key)
		} else {
			line = local
		}
		j, err := job.Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.client.Enqueue(t.Context(), j, []string{"interactive", "batch"}[i%2]); err != nil {
			t.Fatal(err)
		}
		ids, jobs = append(ids, id), append(jobs, local)
	}
	stop := s.daemon()
	s.await(ids)
	s.clean(prompt)
	if status, log := stop(); status != 0 || log != "" {
		t.Errorf("exit status %d, log %s", status, log)
	}

	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("scratch has %v, %v", left, err)
	}
	file := writeFile(t, filepath.Join(dir, "jobs.jsonl"), []byte(strings.Join(jobs, "\n")))
	stdout, _ := s.must(0, "generate", "--jobs", file, "--output", filepath.Join(dir, "out"), "--json")
	for _, want := range lines[*job.Record](t, stdout) {
		got := s.record(want.ID)
		if got.State != job.Done || len(got.Images) != len(want.Images) {
			t.Fatalf("record is %+v", got)
		}
		for i := range want.Images {
			if got.Images[i].SHA256 != want.Images[i].SHA256 || got.Images[i].Seed != want.Images[i].Seed {
				t.Errorf("%s: image %d is another", want.ID, i)
			}
			if object, err := s.bucket.Stat(t.Context(), got.Images[i].Key); err != nil || object.Size != got.Images[i].Bytes {
				t.Errorf("%s: image %d: %+v, %v", want.ID, i, object, err)
			}
		}
	}
	records := 0
	for object, err := range s.bucket.List(t.Context(), storage.ResultPrefix) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(object.Key, "/result.json") {
			records++
		}
	}
	if records != 200 {
		t.Errorf("%d records", records)
	}
}

// TestBadInput: each job ends at once with a record that says what was wrong,
// and the worker goes on.
func TestBadInput(t *testing.T) {
	s := newStation(t)
	huge := readFile(t, golden, "photo-64x64-0.png")
	copy(huge[16:24], []byte{0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40}) // 40,000 x 40,000
	inputs := map[string][]byte{"text.jpg": []byte("this is no photo"), "byte": {0xff}, "huge.png": huge}
	for name, data := range inputs {
		if err := s.bucket.Put(t.Context(), "inputs/"+name, data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	body := func(id, more string) string {
		return fmt.Sprintf(`{"version":1,"id":%q,"kind":"text-to-image","model":"sd1","prompt":"p","steps":1,"width":64,"height":64%s}`, id, more)
	}
	photo := func(id, key string) string {
		return strings.Replace(body(id, fmt.Sprintf(`,"strength":1,"input":%q`, key)), "text-to-image", "image-to-image", 1)
	}
	tests := []struct {
		id, payload string
		code        job.Code
		says        string
	}{
		{"model", strings.Replace(body("model", ""), "sd1", "nothing", 1), job.UnknownModel, "demo"},
		{"size", strings.Replace(body("size", ""), `"width":64`, `"width":70`, 1), job.InvalidJob, "nearest is 64"},
		{"small", strings.Replace(body("small", ""), `"width":64`, `"width":6`, 1), job.InvalidJob, "from 64 to 2048"},
		{"missing", photo("missing", "inputs/nothing"), job.InputMissing, "no such object"},
		{"text", photo("text", "inputs/text.jpg"), job.InputInvalid, "input"},
		{"byte", photo("byte", "inputs/byte"), job.InputInvalid, "input"},
		{"huge", photo("huge", "inputs/huge.png"), job.InputTooLarge, "40000"},
		{"typo", body("typo", `,"sede":1`), job.InvalidJob, "sede: unknown field; did you mean seed?"},
		{"no-json", "hello", job.InvalidJob, "JSON"},
		{"other-id", body("another", ""), job.InvalidJob, "id"},
		{"expired", body("expired", `,"expires_at":"2020-01-01T00:00:00Z"`), job.Expired, ""},
	}
	stop := s.daemon()
	producer := newForeignProducer(t, s.url)
	var ids []string
	for _, tt := range tests {
		producer.enqueue(tt.id, tt.payload)
		ids = append(ids, tt.id)
	}
	producer.enqueue("good", body("good", ""))
	s.await(append(ids, "good"))
	for _, tt := range tests {
		r := s.record(tt.id)
		if r.State != job.Failed || r.Error.Code != tt.code || !strings.Contains(r.Error.Message, tt.says) || r.Attempt.Number != 1 {
			t.Errorf("%s: record is %+v, error %+v", tt.id, r, r.Error)
		}
	}
	if r := s.record("good"); r.State != job.Done {
		t.Errorf("the good job ended as %+v", r.Error)
	}
	s.clean("no prompt holds this")
	stop()
}

func TestEnqueueWaitStatusCancel(t *testing.T) {
	s := newStation(t)
	stop := s.daemon()
	photo := filepath.Join(golden, "photo-64x64-0.png")
	args := []string{"enqueue", "--id", "one", "--model", "sd1", "--prompt", "x", "--steps", "4", "--strength", "0.5", "--input", photo}
	stdout, _ := s.must(0, append(args, "--wait")...)
	var receipt queue.Receipt
	all := strings.SplitAfterN(stdout, "\n", 2)
	receipt = lines[queue.Receipt](t, all[0])[0]
	if receipt.ID != "one" || receipt.Queue != "interactive" {
		t.Errorf("receipt is %+v", receipt)
	}
	if r := oneRecord(t, all[1]); r.State != job.Done || r.Kind != job.ImageToImage {
		t.Errorf("record is %+v", r)
	}
	_, stderr := s.must(0, "enqueue", "--id", "one", "--model", "sd1", "--prompt", "x")
	if !strings.Contains(stderr, "enqueued before") {
		t.Errorf("a second enqueue says %q", stderr)
	}
	stdout, _ = s.must(0, "status", "one", "--json")
	if r := oneRecord(t, stdout); r.ID != "one" || r.State != job.Done {
		t.Errorf("status is %s", stdout)
	}
	s.must(1, "status", "nobody")
	s.must(1, "cancel", "nobody")
	s.must(1, "cancel", "one")

	// A job that takes long is cancelled.
	s.must(0, "enqueue", "--id", "long", "--model", "sd1", "--prompt", "x", "--steps", "150", "--width", "512", "--height", "512", "--images", "8")
	s.until("long", func(q queue.Status) bool { return q.Stage == job.StageDenoise })
	s.must(0, "cancel", "long")
	s.await([]string{"long"})
	if r := s.record("long"); r.State != job.Cancelled || r.Images != nil {
		t.Errorf("record is %+v", r)
	}
	stop()
	s.clean("no prompt holds this")
}

// TestCancelWithoutWorker: a job that nobody has is ended by the command.
func TestCancelWithoutWorker(t *testing.T) {
	s := newStation(t)
	photo := filepath.Join(golden, "photo-64x64-0.png")
	s.must(0, "enqueue", "--id", "waiting", "--model", "sd1", "--prompt", "x", "--input", photo)
	stdout, _ := s.must(0, "cancel", "waiting", "--json")
	if status := lines[queue.Status](t, stdout); status[0].State != job.Cancelled {
		t.Errorf("status is %s", stdout)
	}
	if r := s.record("waiting"); r.State != job.Cancelled {
		t.Errorf("record is %+v", r)
	}
	s.clean("no prompt holds this")
	s.must(1, "cancel", "waiting")
}

// TestHandBack: a worker that is told to stop gives an unfinished job back, and
// another one takes it.
func TestHandBack(t *testing.T) {
	s := newStation(t, "IMGUS_JOB_SHUTDOWN_GRACE=100ms")
	stop := s.daemon()
	// Minutes of work: it cannot end in the grace period.
	s.must(0, "enqueue", "--id", "long", "--model", "sd1", "--prompt", "x", "--steps", "150", "--width", "512", "--height", "512", "--images", "8")
	s.until("long", func(q queue.Status) bool { return q.Stage == job.StageDenoise })
	if status, log := stop(); status != 0 {
		t.Fatalf("exit status %d, log %s", status, log)
	}
	if _, err := readRecord(t.Context(), s.bucket, "long"); err == nil {
		t.Fatal("the job has a record")
	}
	stop = s.daemon()
	s.until("long", func(q queue.Status) bool { return q.Stage == job.StageDenoise && q.Attempt == 2 })
	s.must(0, "cancel", "long")
	s.await([]string{"long"})
	stop()
	s.clean("no prompt holds this")
}

// until waits for a status of the job.
func (s *station) until(id string, reached func(queue.Status) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for status, err := range s.client.Watch(ctx, id) {
		if err != nil {
			s.t.Fatalf("%v after %+v", err, status)
		}
		if reached(status) {
			return
		}
	}
	s.t.Fatal("the job ended before")
}

// TestInputsOfOthers: an enqueue that does not get through leaves no photo
// behind, and one of an id that is known does not touch its photo.
func TestInputsOfOthers(t *testing.T) {
	s := newStation(t)
	photo := filepath.Join(golden, "photo-64x64-0.png")
	s.must(0, "enqueue", "--id", "one", "--model", "sd1", "--prompt", "x", "--input", photo)
	s.must(0, "enqueue", "--id", "one", "--model", "sd1", "--prompt", "x", "--input", filepath.Join(golden, "photo-64x64-1.png"))
	got, err := s.bucket.Get(t.Context(), storage.InputKey("one", "input"), 1<<20)
	if err != nil || !bytes.Equal(got, readFile(t, photo)) {
		t.Error("the first job's photo was touched", err)
	}
	s.must(2, "enqueue", "--id", "two", "--model", "sd1", "--prompt", "x", "--input", photo, "--queue", "a:b")
	s.must(2, "enqueue", "--id", "three", "--model", "sd1", "--prompt", "x", "--input", "/dev/zero")
	away := newProgram(t, append(s.environ[1:], "IMGUS_REDIS_URL=redis://127.0.0.1:1")...)
	away.must(69, "enqueue", "--id", "four", "--model", "sd1", "--prompt", "x", "--input", photo)
	s.must(0, "cancel", "one")
	s.clean("no prompt holds this")
	jobFile := writeFile(t, filepath.Join(t.TempDir(), "job.json"), []byte(`{"version":1,"id":"five","kind":"image-to-image","model":"sd1","prompt":""}`))
	s.must(0, "enqueue", "--job", jobFile, "--input", photo)
	if _, err := s.bucket.Stat(t.Context(), storage.InputKey("five", "input")); err != nil {
		t.Error(err)
	}
}

func TestDirectoryStorage(t *testing.T) {
	dir := t.TempDir()
	s := &station{url: "redis://" + testservices.Redis(t)}
	s.program = newProgram(t, "IMGUS_ENGINE_ISOLATE=false", "IMGUS_REDIS_URL="+s.url, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+dir, "IMGUS_MODELS_DIRECTORY="+testModels)
	stop := s.daemon()
	s.must(0, "enqueue", "--id", "one", "--model", "sd1", "--prompt", "x", "--steps", "1", "--width", "64", "--height", "64", "--wait")
	stop()
	var names []string
	err := fs.WalkDir(os.DirFS(filepath.Join(dir, "results")), ".", func(path string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil || len(names) != 3 {
		t.Errorf("files are %v, %v", names, err)
	}
}

// TestUnfitStorage: a store that ignores "only if absent" is refused at the
// start, with the reason.
func TestUnfitStorage(t *testing.T) {
	server := testservices.S3(t)
	bucket, err := s3.Open(s3.Options{Endpoint: server.Endpoint, Bucket: server.Bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: server.Endpoint})
		r.Out.Host = r.In.Host // it is signed
		if r.In.Header.Get("If-None-Match") != "" {
			// So is the condition, but it can be made to hold.
			if err := bucket.Delete(r.In.Context(), strings.TrimPrefix(r.In.URL.Path, "/"+server.Bucket+"/")); err != nil {
				t.Error(err)
			}
		}
	}}
	store := httptest.NewServer(proxy)
	defer store.Close()
	s := newStation(t, "IMGUS_ENGINE_ISOLATE=false", "IMGUS_STORAGE_ENDPOINT="+strings.TrimPrefix(store.URL, "http://"))
	if _, log := s.must(exitConfig, "run"); !strings.Contains(log, "the storage is unfit: a conditional write overwrote an object") {
		t.Errorf("it says %s", log)
	}
}
