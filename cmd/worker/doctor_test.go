package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/queue"
)

// findings runs the doctor, which must end with the status.
func (p *program) findings(status int) []finding {
	p.t.Helper()
	stdout, _ := p.must(status, "doctor", "--json")
	found := lines[finding](p.t, stdout)
	for _, f := range found {
		if (f.Verdict == good) != (f.Remedy == "") {
			p.t.Errorf("%+v: a remedy is for what is not well, and needed there", f)
		}
	}
	return found
}

func verdicts(found []finding, check string) (all []verdict) {
	for _, f := range found {
		if f.Check == check {
			all = append(all, f.Verdict)
		}
	}
	return all
}

// Beside a worker that runs, all is well.
func TestDoctor(t *testing.T) {
	s := newStation(t, "IMGUS_HTTP_ADDRESS=")
	stop := s.daemon()
	for deadline := time.Now().Add(30 * time.Second); len(s.workers()) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, log := stop()
			t.Fatal("the worker gives no sign of life: ", log)
		}
	}
	found := s.findings(0)
	for _, check := range []string{"config", "redis", "clock", "workers", "storage", "onnxruntime", "provider", "device", "model", "disk", "seal", "privacy", "retention", "safety", "http"} {
		if got := verdicts(found, check); len(got) == 0 || slices.Contains(got, bad) {
			t.Errorf("%s is %v", check, got)
		}
	}
	if got := verdicts(found, "seal"); !slices.Contains(got, warning) {
		t.Error("no word of prompts that can be read in Redis")
	}
	keys := newProgram(t, append(slices.Clone(s.environ), "IMGUS_SEAL_DIRECTORY=../../configs/testdata/keys", "IMGUS_SEAL_KEY=example", "IMGUS_SEAL_REQUIRED=true")...)
	if stdout, _ := keys.must(0, "doctor"); !strings.Contains(stdout, "jobs sealed with example (ba45d325) can be opened; no others are taken; this client seals with example") {
		t.Error(stdout)
	}
	if got := verdicts(found, "redis"); !slices.Contains(got, warning) {
		t.Error("no word of a Redis that forgets jobs")
	}
	stdout, _ := s.must(0, "doctor")
	if !strings.Contains(stdout, "-> ") || strings.Contains(stdout, "imgus-test-secret") {
		t.Error(stdout)
	}
	// A worker with other models is told of.
	other := newProgram(t, append(slices.Clone(s.environ), "IMGUS_MODELS_DIRECTORY="+t.TempDir())...)
	if got := verdicts(other.findings(0), "workers"); !slices.Contains(got, warning) {
		t.Errorf("workers with other models: %v", got)
	}
}

func (s *station) workers() []queue.Worker {
	s.t.Helper()
	workers, err := s.client.Workers(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return workers
}

func TestDoctorFindsFaults(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	redis := testservices.Redis(t)
	base := []string{"IMGUS_REDIS_URL=" + redis, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY=" + t.TempDir(), "IMGUS_MODELS_DIRECTORY=" + t.TempDir(), "IMGUS_HTTP_ADDRESS="}
	limited := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{"user default on nopass ~* &* +@all -zadd"}}).Addr
	tests := []struct {
		name    string
		environ []string
		status  int
		check   string
		says    string
	}{
		{"config", []string{"IMGUS_LOG_LEVEL=loud"}, 78, "config", "log.level"},
		{"no key", []string{"IMGUS_SEAL_DIRECTORY=testdata"}, 1, "seal", "half_unet.onnx"},
		{"redis away", []string{"IMGUS_REDIS_URL=redis://127.0.0.1:1"}, 69, "redis", "unavailable"},
		{"redis forbids", []string{"IMGUS_REDIS_URL=" + limited}, 1, "redis", "+zadd"},
		{"storage away", []string{"IMGUS_STORAGE_KIND=s3", "IMGUS_STORAGE_ENDPOINT=127.0.0.1:1", "IMGUS_STORAGE_BUCKET=bucket", "IMGUS_STORAGE_ACCESS_KEY=a", "IMGUS_STORAGE_SECRET_KEY=s", "IMGUS_STORAGE_TLS=false"}, 69, "storage", "unavailable"},
		{"no library", []string{"IMGUS_ENGINE_LIBRARY=/nowhere"}, 1, "onnxruntime", "/nowhere"},
		{"no such device", []string{"IMGUS_ENGINE_DEVICES=cuda:0"}, 78, "device", "cuda:0"},
		{"safety", []string{"IMGUS_SAFETY_PROMPT_POLICY=block", "IMGUS_SAFETY_PROMPT_LIST=/nowhere"}, 78, "safety", "/nowhere"},
		{"model", []string{"IMGUS_MODELS_DIRECTORY=" + dir}, 1, "model", "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			found := newProgram(t, slices.Concat(base, tt.environ)...).findings(tt.status)
			if !slices.ContainsFunc(found, func(f finding) bool {
				return f.Check == tt.check && f.Verdict == bad && strings.Contains(f.Detail, tt.says)
			}) {
				t.Errorf("nothing is said of %s: %+v", tt.says, found)
			}
		})
	}
}

// What the worker can do without is a warning.
func TestDoctorOnRightsThatAreNotNeeded(t *testing.T) {
	redis := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{"user default on nopass ~* &* +@all -scan -psubscribe"}}).Addr
	found := newProgram(t, "IMGUS_REDIS_URL="+redis, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+t.TempDir(), "IMGUS_MODELS_DIRECTORY="+t.TempDir(), "IMGUS_HTTP_ADDRESS=").findings(0)
	if !slices.ContainsFunc(found, func(f finding) bool {
		return f.Check == "redis" && f.Verdict == warning && strings.Contains(f.Detail, "+scan +psubscribe")
	}) {
		t.Errorf("nothing is said of it: %+v", found)
	}
}

// A provider library that misses what it needs is named, with what it misses.
func TestDoctorNamesMissingLibraries(t *testing.T) {
	dir := t.TempDir()
	build := func(args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "gcc", append([]string{"-shared", "-x", "c", "/dev/null"}, args...)...)
		command.Dir = dir
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	build("-o", "libcudnn.so.9")
	build("-o", "libonnxruntime_providers_cuda.so", "-Wl,--no-as-needed", "-x", "none", "-L.", "-l:libcudnn.so.9")
	providers := func() []finding {
		var out buffer
		d := &doctor{app: &app{stdout: &out, json: true}}
		d.providers(t.Context(), filepath.Join(dir, "libonnxruntime.so"))
		return lines[finding](t, out.String())
	}
	if found := providers(); len(found) != 1 || found[0].Verdict != good {
		t.Errorf("complete: %+v", found)
	}
	if err := os.Remove(filepath.Join(dir, "libcudnn.so.9")); err != nil {
		t.Fatal(err)
	}
	if found := providers(); len(found) != 1 || found[0].Verdict != warning || !strings.Contains(found[0].Detail, "misses libcudnn.so.9") {
		t.Errorf("incomplete: %+v", found)
	}
}
