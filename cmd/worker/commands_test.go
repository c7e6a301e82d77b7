package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/goldentest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
)

func TestDemo(t *testing.T) {
	dir := t.TempDir()
	p := newProgram(t)
	stdout, _ := p.must(0, "demo", "--output", dir, "--steps", "3", "--json", "a small red circle on a blue background")
	r := oneRecord(t, stdout)
	if r.State != job.Done || r.Parameters.Steps != 3 || r.Model.Name != "demo" {
		t.Errorf("record is %+v", r)
	}
	data := readFile(t, dir, r.Images[0].Key)
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != r.Images[0].SHA256 {
		t.Error("the picture is not the record's")
	}
	stdout, _ = p.must(0, "demo", "--output", dir, "--steps", "3", "--seed", "1", "--isolate")
	for _, want := range []string{"picture  " + dir, "record   " + dir, "denoise", "total"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q lacks %q", stdout, want)
		}
	}
}

func TestDemoWithPhoto(t *testing.T) {
	dir := t.TempDir()
	p := newProgram(t)
	stdout, _ := p.must(0, "demo", "--output", dir, "--input", filepath.Join(golden, "photo-128x96-0.png"), "--strength", "0.2", "--json")
	r := oneRecord(t, stdout)
	if r.Kind != job.ImageToImage || *r.Parameters.Strength != 0.2 || r.Images[0].Height != 96 {
		t.Errorf("record is %+v", r)
	}
	if _, err := os.Stat(filepath.Join(dir, "inputs")); !os.IsNotExist(err) {
		t.Error("the photo is still there")
	}
	p.must(2, "demo", "--output", dir, "--input", filepath.Join(golden, "photo-128x96-0.png"), "--steps", "500")
	p.must(2, "demo", "--output", dir, "--input", "/dev/zero")
	if _, err := os.Stat(filepath.Join(dir, "inputs")); !os.IsNotExist(err) {
		t.Error("a refused demo leaves the photo behind")
	}
	stdout, _ = p.must(1, "demo", "--output", dir, "--input", writeFile(t, filepath.Join(dir, "text.jpg"), []byte("no photo")), "--json")
	if r := oneRecord(t, stdout); r.Error.Code != job.InputInvalid {
		t.Errorf("record is %+v", r)
	}
}

// TestGolden: the pictures that the command writes are those of diffusers,
// whether the engine is a process of its own or not.
func TestGolden(t *testing.T) {
	for _, isolate := range []string{"--isolate=false", "--isolate"} {
		t.Run(isolate, func(t *testing.T) { testGolden(t, isolate) })
	}
}

func testGolden(t *testing.T, isolate string) {
	t.Helper()
	out := t.TempDir()
	stdout, _ := newProgram(t).must(0, "generate", isolate, "--models", testModels, "--jobs", filepath.Join(golden, "jobs.jsonl"), "--output", out, "--json")
	records := lines[*job.Record](t, stdout)
	for i, j := range goldentest.Jobs(t) {
		if records[i].ID != j.ID {
			t.Fatalf("record %d is of %s, want %s", i, records[i].ID, j.ID)
		}
		for k, img := range records[i].Images {
			most, mean := goldentest.Difference(t, readFile(t, out, img.Key), goldentest.File(t, fmt.Sprintf("%s-%d.png", j.ID, k)))
			if most > goldentest.Most || mean > goldentest.Mean {
				t.Errorf("%s: image %d differs by at most %d, on average %.4f", j.ID, k, most, mean)
			}
		}
	}
}

// TestGenerateJobs: records in order, files where they should be, and a bad job
// among good ones ends nothing.
func TestGenerateJobs(t *testing.T) {
	dir := t.TempDir()
	good := func(id string) string {
		return `{"version":1,"id":"` + id + `","kind":"text-to-image","model":"sd1","prompt":"","steps":1,"width":64,"height":64,"images":2}`
	}
	photo := `{"version":1,"id":"c","kind":"image-to-image","model":"sd1","prompt":"","steps":2,"width":64,"height":64,"strength":0.5,"input":"photo-64x64-0.png"}`
	long := `{"version":1,"id":"e","prompt":"` + strings.Repeat("x", 500_000) + `"}`
	expired := strings.Replace(good("g"), `"images":2`, `"expires_at":"2020-01-01T00:00:00Z"`, 1)
	jobs := []string{long, good("a"), `{"version":1,"id":"b","promt":""}`, photo, strings.Replace(photo, "photo-64x64-0", "nothing", 1), `no JSON`, "", expired, good("f")}
	file := writeFile(t, filepath.Join(dir, "jobs.jsonl"), []byte(strings.Join(jobs, "\n")))
	writeFile(t, filepath.Join(dir, "photo-64x64-0.png"), readFile(t, golden, "photo-64x64-0.png"))
	out := filepath.Join(dir, "out")

	stdout, _ := newProgram(t).must(1, "generate", "--models", testModels, "--jobs", file, "--output", out, "--json")
	records := lines[*job.Record](t, stdout)
	want := []struct {
		id    string
		state job.State
		code  job.Code
	}{
		{"", job.Failed, job.InvalidJob}, {"a", job.Done, ""}, {"b", job.Failed, job.InvalidJob}, {"c", job.Done, ""}, {"c", job.Failed, job.InputMissing},
		{"", job.Failed, job.InvalidJob}, {"g", job.Failed, job.Expired}, {"f", job.Done, ""},
	}
	if len(records) != len(want) {
		t.Fatalf("%d records: %s", len(records), stdout)
	}
	for i, w := range want {
		r := records[i]
		if r.ID != w.id || r.State != w.state || w.code != "" && r.Error.Code != w.code {
			t.Errorf("record %d is %+v", i, r)
		}
	}
	if key := records[1].Images[1].Key; key != "a/1.png" {
		t.Errorf("key is %s", key)
	}
	readFile(t, out, "a", "1.png")
	var stored job.Record
	if err := json.Unmarshal(readFile(t, out, "a", "result.json"), &stored); err != nil || stored.ID != "a" || stored.Images[0].Seed+1 != stored.Images[1].Seed {
		t.Errorf("stored record is %+v, %v", stored, err)
	}
}

func TestGenerateByFlags(t *testing.T) {
	p := newProgram(t)
	out := t.TempDir()
	stdout, _ := p.must(0, "generate", "--model", filepath.Join(testModels, "sd1"), "--prompt", "x", "--negative-prompt", "", "--seed", "7", "--steps", "4",
		"--guidance-scale", "2", "--guidance-rescale", "0.5", "--scheduler", "dpmpp-2m-karras", "--width", "96", "--height", "64", "--images", "2",
		"--format", "webp", "--clip-skip", "1", "--id", "mine", "--output", out)
	r := oneRecord(t, stdout)
	want := job.Parameters{
		PromptSyntax: job.Plain, Width: 96, Height: 64, Steps: 4, GuidanceScale: 2, GuidanceRescale: 0.5, Seed: 7, Images: 2, Scheduler: "dpmpp-2m-karras", ClipSkip: 1,
		Output: job.EffectiveOutput{Format: job.WebP, Quality: 90},
	}
	if *r.Parameters != want || r.ID != "mine" || r.Images[1].Key != "mine/1.webp" {
		t.Errorf("record is %+v, parameters %+v", r, r.Parameters)
	}
	stdout, _ = p.must(1, "generate", "--model", "nothing", "--prompt", "x", "--output", out)
	if r := oneRecord(t, stdout); r.Error.Code != job.UnknownModel {
		t.Errorf("record is %+v", r)
	}
}

func TestUsage(t *testing.T) {
	p := newProgram(t)
	for _, args := range [][]string{
		{"nothing"}, {"generate"}, {"generate", "--output", "x"}, {"generate", "--model", "demo", "--steps", "many", "--output", "x"}, {"demo", "a", "b"},
		{"status"}, {"status", "../x"}, {"config", "nothing"}, {"enqueue"}, {"enqueue", "--model", "demo", "--prompt", "x", "--steps", "0"}, {"--nothing"},
		{"enqueue", "--job", "x", "--model", "demo"}, {"enqueue", "--model", "demo", "--input", "x", "--input-key", "inputs/x"},
		{"generate", "--jobs", "x", "--steps", "3", "--output", "x"}, {"enqueue", "--model", "a model", "--prompt", "x"},
		{"enqueue", "--model", "demo", "--prompt", "x", "--queue", "a:b"},
	} {
		if _, stderr := p.must(2, args...); !strings.HasPrefix(stderr, "worker: ") {
			t.Errorf("%v says %q", args, stderr)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	p := newProgram(t)
	root := (&app{}).rootCommand()
	for _, c := range root.Commands() {
		if c.Short == "" {
			t.Errorf("%s says nothing of itself", c.Name())
		}
		stdout, _ := p.must(0, c.Name(), "--help")
		if !strings.Contains(stdout, "Usage:") {
			t.Errorf("%s --help shows %q", c.Name(), stdout)
		}
	}
	if stdout, _ := p.must(0, "completion", "bash"); !strings.Contains(stdout, "worker") {
		t.Error("no completion")
	}
}

func TestConfigCommands(t *testing.T) {
	p := newProgram(t, "IMGUS_JOB_MAX_ATTEMPTS=0", "IMGUS_NOTHING=1", "IMGUS_STORAGE_SECRET_KEY=swordfish")
	stdout, _ := p.must(78, "config", "check", "--json")
	var problems struct {
		Problems []struct{ Key, Message string } `json:"problems"`
	}
	if err := json.Unmarshal([]byte(stdout), &problems); err != nil || len(problems.Problems) < 3 { // attempts, the variable, the bucket
		t.Errorf("problems are %s, %v", stdout, err)
	}
	p = newProgram(t, "IMGUS_STORAGE_SECRET_KEY=swordfish", "IMGUS_STORAGE_BUCKET=pictures", "IMGUS_STORAGE_ACCESS_KEY=k", "IMGUS_STORAGE_ENDPOINT=localhost:9000")
	p.must(0, "config", "check")
	stdout, _ = p.must(0, "config", "show")
	if strings.Contains(stdout, "swordfish") || !strings.Contains(stdout, "job.max_attempts") || !strings.Contains(stdout, "IMGUS_STORAGE_BUCKET") {
		t.Errorf("config show says %s", stdout)
	}
	p.must(78, "run", "--config", "nothing.yaml")
	p = newProgram(t)
	p.must(78, "run")
}

func TestModelsList(t *testing.T) {
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+testModels)
	stdout, _ := p.must(0, "models", "list", "--json")
	found := map[string]string{}
	for _, row := range lines[struct{ Name, Family string }](t, stdout) {
		found[row.Name] = row.Family
	}
	if found["demo"] != "sd1" || found["sdxl"] != "sdxl" || len(found) != 8 {
		t.Errorf("models are %v", found)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	p = newProgram(t, "IMGUS_MODELS_DIRECTORY="+dir)
	stdout, _ = p.must(1, "models", "list")
	if !strings.Contains(stdout, "broken: ") || !strings.Contains(stdout, "demo") {
		t.Errorf("models list says %s", stdout)
	}
}

func TestVersion(t *testing.T) {
	stdout, _ := newProgram(t).must(0, "version", "--json")
	var v struct{ Version, Commit, Go, ONNXRuntime string }
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || v.ONNXRuntime == "" || v.Version == "" || !strings.HasPrefix(v.Go, "go") {
		t.Errorf("version is %s, %v", stdout, err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	address := testservices.Redis(t)
	r := redis.NewClient(&redis.Options{Addr: address})
	defer r.Close()
	r.ZAdd(t.Context(), "asynq:{interactive}:archived", redis.Z{Score: 1, Member: "gone"})
	p := newProgram(t, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+dir, "IMGUS_REDIS_URL="+address)
	lost := filepath.Join(dir, "results", "a", "x-0.png")
	if err := os.MkdirAll(filepath.Dir(lost), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, lost, []byte("x"))
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(lost, old, old); err != nil {
		t.Fatal(err)
	}
	stdout, _ := p.must(0, "sweep", "--dry-run", "--json")
	if !strings.Contains(stdout, `"key":"results/a/x-0.png"`) || !strings.Contains(stdout, `"key":"interactive/gone"`) || r.ZCard(t.Context(), "asynq:{interactive}:archived").Val() != 1 {
		t.Errorf("a dry sweep says %q", stdout)
	}
	readFile(t, lost)
	p.must(0, "sweep")
	if _, err := os.Stat(lost); !os.IsNotExist(err) {
		t.Error("the image is still there")
	}
	if n := r.ZCard(t.Context(), "asynq:{interactive}:archived").Val(); n != 0 {
		t.Error("the queue's entry is still there")
	}
	// Without Redis the storage is swept all the same.
	if err := os.MkdirAll(filepath.Dir(lost), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, lost, []byte("x"))
	if err := os.Chtimes(lost, old, old); err != nil {
		t.Fatal(err)
	}
	away := newProgram(t, append(p.environ, "IMGUS_REDIS_URL=redis://127.0.0.1:1")...)
	stdout, stderr := away.must(exitUnavailable, "sweep")
	if !strings.Contains(stdout, "x-0.png") || !strings.Contains(stderr, "sweep the queues") {
		t.Errorf("it says %s%s", stdout, stderr)
	}
}

func TestServicesAway(t *testing.T) {
	p := newProgram(t, "IMGUS_REDIS_URL=redis://127.0.0.1:1", "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+t.TempDir())
	p.must(69, "enqueue", "--model", "demo", "--prompt", "x")
	p.must(69, "status", "some-id")
	p.must(69, "cancel", "some-id")
}
