package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// endpoint is a daemon's address of metrics and health.
type endpoint string

func newEndpoint(t *testing.T) endpoint {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return endpoint(listener.Addr().String())
}

func (e endpoint) get(path string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + string(e) + path)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(data)
}

// await asks until the answer has the status, and gives its body and how long
// that took.
func (e endpoint) await(t *testing.T, path string, want int) (string, time.Duration) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		status, body := e.get(path)
		if status == want {
			return body, time.Since(start)
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("%s answers %d, %s; want %d", path, status, body, want)
		}
	}
}

// awaitMetric asks until the metrics have the line.
func (e endpoint) awaitMetric(t *testing.T, line string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, body := e.get("/metrics")
		if strings.Contains(body, line+"\n") {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("no %s in %s", line, body)
		}
	}
}

// checks are what /readyz says of each.
func checks(t *testing.T, body string) map[string]string {
	t.Helper()
	var report struct{ Checks map[string]string }
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return report.Checks
}

// The worker is ready when all is there, says what has gone, and is ready again
// when it is back; it lives all the while.
func TestReadiness(t *testing.T) {
	redis, store, at := testservices.StartRedis(t, testservices.RedisOptions{Persist: true}), testservices.StartS3(t), newEndpoint(t)
	p := newProgram(t, "IMGUS_HTTP_ADDRESS="+string(at), "IMGUS_REDIS_URL=redis://"+redis.Addr, "IMGUS_STORAGE_ENDPOINT="+store.Endpoint,
		"IMGUS_STORAGE_BUCKET="+store.Bucket, "IMGUS_STORAGE_ACCESS_KEY="+store.AccessKey, "IMGUS_STORAGE_SECRET_KEY="+store.SecretKey,
		"IMGUS_STORAGE_TLS=false", "IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_WARM_UP=sd1")
	stop := p.daemon()
	at.await(t, "/livez", http.StatusOK)
	if status, body := at.get("/readyz"); status == http.StatusServiceUnavailable && checks(t, body)["warm_up"] == "ok" {
		t.Errorf("warm at once: %s", body)
	}
	body, _ := at.await(t, "/readyz", http.StatusOK)
	for _, name := range []string{"warm_up", "engine", "engine_answers", "storage", "redis", "queue", "clock"} {
		if says := checks(t, body)[name]; says != "ok" {
			t.Errorf("%s is %q", name, says)
		}
	}
	signalEngines := func(s syscall.Signal) func() {
		return func() {
			for _, pid := range childrenOf(t, syscall.Getpid(), "engine") {
				_ = syscall.Kill(pid, s)
			}
		}
	}
	for _, tt := range []struct {
		name, check string
		leave, back func()
	}{
		{"redis stops", "redis", redis.Stop, redis.Start},
		{"redis hangs", "redis", redis.Pause, redis.Resume},
		{"storage stops", "storage", store.Stop, store.Start},
		{"storage hangs", "storage", store.Pause, store.Resume},
		{"engine is killed", "engine", signalEngines(syscall.SIGKILL), func() {}},
		{"engine hangs", "engine_answers", signalEngines(syscall.SIGSTOP), signalEngines(syscall.SIGCONT)},
	} {
		tt.leave()
		body, fell := at.await(t, "/readyz", http.StatusServiceUnavailable)
		if says := checks(t, body)[tt.check]; says == "ok" || says == "" {
			t.Errorf("%s: %s", tt.name, body)
		}
		if status, _ := at.get("/livez"); status != http.StatusOK {
			t.Errorf("%s: it does not live: %d", tt.name, status)
		}
		if tt.check == "storage" { // and no job is taken into it
			at.awaitMetric(t, `imgus_away{service="storage"} 1`)
		}
		tt.back()
		_, rose := at.await(t, "/readyz", http.StatusOK)
		t.Logf("%s: not ready after %s, ready %s after its return", tt.name, fell.Round(time.Millisecond), rose.Round(time.Millisecond))
	}
	if status, body := at.get("/metrics"); status != http.StatusOK || !strings.Contains(body, `imgus_outages_total{service="storage"}`) ||
		!strings.Contains(body, `imgus_away{service="redis"} 0`) || !strings.Contains(body, `imgus_engine_ends_total{device="cpu",reason="crashed"} 1`) {
		t.Errorf("%d: %s", status, body)
	}
	if _, log := p.must(exitConfig, "run"); !strings.Contains(log, "http.address") {
		t.Errorf("a second worker on the address: %s", log)
	}
	stop()
	if status, _ := at.get("/livez"); status != 0 {
		t.Errorf("it answers %d after its end", status)
	}
}

// A storage that is away is not knocked at more than twice a second.
func TestStorageIsNotHammered(t *testing.T) {
	knocks := testservices.CountKnocks(t, "127.0.0.1:0")
	at := newEndpoint(t)
	p := newProgram(t, "IMGUS_HTTP_ADDRESS="+string(at), "IMGUS_REDIS_URL=redis://"+testservices.Redis(t), "IMGUS_STORAGE_ENDPOINT="+knocks.Addr,
		"IMGUS_STORAGE_BUCKET=imgus", "IMGUS_STORAGE_ACCESS_KEY=a", "IMGUS_STORAGE_SECRET_KEY=b", "IMGUS_STORAGE_TLS=false",
		"IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_ISOLATE=false")
	stop := p.daemon()
	at.await(t, "/readyz", http.StatusServiceUnavailable)
	start := time.Now()
	time.Sleep(6 * time.Second)
	const burst = 6
	if n, most := knocks.Count(), burst+2*time.Since(start).Seconds(); float64(n) > most {
		t.Errorf("%d connections, %v would be many", n, most)
	} else {
		t.Logf("%d connections in %s", n, time.Since(start))
	}
	stop()
}

// A broken model beside a good one is named, and makes nobody unready: neither
// one that is no model at all, nor one that turns out so when it is loaded.
func TestBrokenModelsAreNamed(t *testing.T) {
	dir, at := t.TempDir(), newEndpoint(t)
	for _, name := range []string{"sd1", "cut", "odd"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(testModels, "sd1"))); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "cut", "unet", "model.onnx"), readFile(t, dir, "cut", "unet", "model.onnx")[:5000])
	writeFile(t, filepath.Join(dir, "odd", "model_index.json"), []byte("{"))
	s := newStation(t, "IMGUS_HTTP_ADDRESS="+string(at), "IMGUS_MODELS_DIRECTORY="+dir, "IMGUS_LOG_LEVEL=error")
	s.daemon()
	for i, model := range []string{"cut", "sd1"} {
		j := smallJob(1)
		j.ID, j.Model = fmt.Sprintf("named-%d", i), model
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
	}
	s.await([]string{"named-0", "named-1"})
	if bad, good := s.record("named-0"), s.record("named-1"); bad.State != job.Failed || good.State != job.Done {
		t.Fatalf("the records are %+v and %+v", bad, good)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		status, body := at.get("/readyz")
		if status == http.StatusOK && strings.Contains(body, `"model cut":`) && strings.Contains(body, `"model odd":`) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d: %s", status, body)
		}
	}
}

// What happened to jobs is counted under labels that are known beforehand.
func TestJobMetrics(t *testing.T) {
	at := newEndpoint(t)
	s := newStation(t, "IMGUS_HTTP_ADDRESS="+string(at))
	s.daemon()
	for i, model := range []string{"sd1", "sd1", "hostile-name"} {
		j := smallJob(3)
		j.ID, j.Model, j.Prompt = fmt.Sprintf("counted-%d", i), model, new("a secret wish")
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
	}
	s.await([]string{"counted-0", "counted-1", "counted-2"})
	wanted := []string{
		`imgus_jobs_total{code="",kind="text-to-image",model="sd1",queue="interactive",state="done"} 2`,
		`imgus_jobs_total{code="unknown_model",kind="text-to-image",model="other",queue="interactive",state="failed"} 1`,
		`imgus_images_total{model="sd1"} 2`, `imgus_steps_total{model="sd1"} 6`, `imgus_stage_seconds_count{model="sd1",stage="denoise"} 2`,
		`imgus_engine_ready{device="cpu"} 1`, `imgus_model_loads_total{device="cpu"} `, `imgus_queue_jobs{queue="interactive",state="pending"} `,
		`imgus_ready `, `imgus_build_info{`, `imgus_storage_seconds_count{operation="put_if_absent"} `, `imgus_redis_seconds_count{command="evalsha"} `,
		`imgus_device_memory_total_bytes{device="cpu"} `,
	}
	var body string
	missing := func() []string {
		_, body = at.get("/metrics")
		var left []string
		for _, text := range wanted {
			if !strings.Contains(body, text) {
				left = append(left, text)
			}
		}
		return left
	}
	// The count follows the status, and the engine is asked every few seconds.
	for deadline := time.Now().Add(30 * time.Second); len(missing()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %s", missing(), body)
		}
	}
	for _, text := range []string{"secret", "hostile", "counted-", "results/", `command="other"`, `operation="other"`} {
		if strings.Contains(body, text) {
			t.Errorf("the metrics hold %q", text)
		}
	}
}

// What the daemon's sweep deletes is counted.
func TestSweepIsCounted(t *testing.T) {
	at, bucket := newEndpoint(t), storagetest.Memory()
	p := newProgram(t, "IMGUS_HTTP_ADDRESS="+string(at))
	a := &app{stderr: io.Discard, environ: p.environ}
	c, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	c.Retention.Inputs = time.Nanosecond
	seen, err := a.observe(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer seen.close()
	if err := bucket.Put(t.Context(), storage.InputPrefix+"somebody's/photo", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := seen.janitor(bucket, c.Retention).Sweep(t.Context(), false, func(janitor.Finding) {}); err != nil {
		t.Fatal(err)
	}
	if _, body := at.get("/metrics"); !strings.Contains(body, `imgus_swept_total{kind="old_input"} 1`) || !strings.Contains(body, `imgus_swept_total{kind="probe"} 0`) {
		t.Error(body)
	}
}
