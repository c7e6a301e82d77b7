package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/onnxtest"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// redFilter is a classifier that takes red for what nobody may see, and a list
// with a word.
func redFilter(t *testing.T) (classifier, list string) {
	t.Helper()
	dir := t.TempDir()
	model := onnxtest.ChannelMeans("pixels", "scores", 8, 8)
	sum := sha256.Sum256(model)
	writeFile(t, filepath.Join(dir, "model.onnx"), model)
	writeFile(t, filepath.Join(dir, "classifier.yaml"), fmt.Appendf(nil, `
name: red
resize: {width: 8, height: 8, filter: box}
input: {width: 8, height: 8, layout: nchw, channels: rgb, scale: 0.00392156862745098}
output: {activation: none, labels: [red, green, blue]}
thresholds: {red: 0.5}
files: {model.onnx: %s}
`, hex.EncodeToString(sum[:])))
	return dir, writeFile(t, filepath.Join(t.TempDir(), "words.txt"), []byte("# colours\nsecret\n"))
}

func plain(t *testing.T, c color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	draw.Draw(img, img.Rect, image.NewUniform(c), image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const blue, yellow = "a small black circle on a blue background", "a small white circle on a yellow background"

// Jobs go through the real queue and an engine of its own process; what is
// refused leaves a record and nothing else.
func TestRunChecks(t *testing.T) {
	classifier, list := redFilter(t)
	for _, policy := range []string{"block", "flag"} {
		t.Run(policy, func(t *testing.T) {
			s := newStation(t, "IMGUS_SAFETY_PROMPT_POLICY="+policy, "IMGUS_SAFETY_PROMPT_LIST="+list, "IMGUS_SAFETY_IMAGE_MODEL="+classifier,
				"IMGUS_SAFETY_IMAGE_INPUT="+policy, "IMGUS_SAFETY_IMAGE_OUTPUT="+policy)
			stop := s.daemon()
			found := map[string]job.Finding{"block": job.Blocked, "flag": job.Flagged}[policy]
			jobs := map[string]struct {
				prompt string
				photo  []byte
				want   map[job.Target]job.Finding
				ends   job.Target // what a job that is blocked ends at
			}{
				"good":       {blue, nil, nil, ""},
				"good-photo": {blue, plain(t, color.NRGBA{0, 0, 255, 255}), nil, ""},
				"bad-prompt": {"a S.E.C.R.E.T circle", nil, map[job.Target]job.Finding{job.TargetPrompt: found}, job.TargetPrompt},
				"bad-photo":  {blue, plain(t, color.NRGBA{255, 0, 0, 255}), map[job.Target]job.Finding{job.TargetInput: found}, job.TargetInput},
				"bad-output": {yellow, nil, map[job.Target]job.Finding{job.TargetOutput: found}, job.TargetOutput},
			}
			var ids []string
			for id, tt := range jobs {
				j := &job.Job{Version: 1, ID: id, Kind: job.TextToImage, Model: "demo", Prompt: &tt.prompt, Steps: new(6), Seed: new(int64(42)), Images: new(2)}
				if tt.photo != nil {
					j.Kind, j.Input, j.Strength = job.ImageToImage, new(storage.InputKey(id, "input")), new(1.0)
					if err := s.bucket.Put(t.Context(), *j.Input, tt.photo, storage.PutOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.client.Enqueue(t.Context(), j, "batch"); err != nil {
					t.Fatal(err)
				}
				ids = append(ids, id)
			}
			s.await(ids)
			for id, tt := range jobs {
				r := s.record(id)
				blocked := policy == "block" && tt.ends != ""
				if blocked != (r.State == job.Failed) || blocked && r.Error.Code != job.Refused {
					t.Errorf("%s: record is %+v, %+v", id, r, r.Error)
				}
				seen := map[job.Target]int{}
				for _, v := range r.Safety {
					seen[v.Target]++
					want := tt.want[v.Target]
					if want == "" {
						want = job.Passed
					}
					if v.Target != job.TargetInput && tt.ends == job.TargetInput && policy == "flag" || tt.ends == job.TargetPrompt && v.Target == job.TargetOutput {
						continue // what a red photo, or another prompt, gives does not matter
					}
					if v.Finding != want || !strings.HasPrefix(v.Digest, "sha256:") || v.Check == "image" && v.Scores["red"] == v.Scores["blue"] {
						t.Errorf("%s: verdict is %+v, want %s", id, v, want)
					}
				}
				if seen[job.TargetPrompt] != 1 || tt.photo != nil && seen[job.TargetInput] != 1 || !blocked && seen[job.TargetOutput] != 2 {
					t.Errorf("%s: verdicts are %+v", id, r.Safety)
				}
				for object := range s.bucket.List(t.Context(), "results/"+id+"/") {
					if blocked && !strings.HasSuffix(object.Key, ".json") {
						t.Errorf("%s is stored", object.Key)
					}
				}
			}
			status, log := stop()
			if status != 0 || strings.Contains(strings.ToLower(log), "s.e.c.r.e.t") {
				t.Errorf("exit status %d, log\n%s", status, log)
			}
			s.clean("S.E.C.R.E.T")
		})
	}
}

func TestGenerateChecks(t *testing.T) {
	classifier, list := redFilter(t)
	dir := t.TempDir()
	p := newProgram(t, "IMGUS_SAFETY_PROMPT_POLICY=block", "IMGUS_SAFETY_PROMPT_LIST="+list, "IMGUS_SAFETY_IMAGE_MODEL="+classifier, "IMGUS_SAFETY_IMAGE_OUTPUT=block")
	for prompt, want := range map[string]string{blue: "", yellow: "output", "secret": "prompt"} {
		status, stdout, stderr := p.run("", "generate", "--model", "demo", "--steps", "6", "--seed", "42", "--prompt", prompt, "--output", dir, "--id", "a", "--json")
		r := oneRecord(t, stdout)
		if want == "" && (status != 0 || len(r.Safety) != 2 || len(r.Images) != 1) {
			t.Errorf("%s: status %d, %+v\n%s", prompt, status, r, stderr)
		}
		if want != "" && (status != 1 || r.Error == nil || r.Error.Code != job.Refused || len(r.Safety) == 0 || r.Safety[len(r.Safety)-1].Target != job.Target(want)) {
			t.Errorf("%s: status %d, %+v\n%s", prompt, status, r, stderr)
		}
	}
}

// A worker whose checks cannot run does not start, and says which.
func TestChecksThatCannotRun(t *testing.T) {
	classifier, list := redFilter(t)
	misfit, _ := redFilter(t)
	manifest := readFile(t, misfit, "classifier.yaml")
	writeFile(t, filepath.Join(misfit, "classifier.yaml"), bytes.Replace(manifest, []byte("nchw"), []byte("nhwc"), 1))
	for name, tt := range map[string]struct {
		environ []string
		want    string
		spoil   func()
	}{
		"no list":       {[]string{"IMGUS_SAFETY_PROMPT_POLICY=flag", "IMGUS_SAFETY_PROMPT_LIST=" + list + "x"}, "safety.prompt.list", nil},
		"no classifier": {[]string{"IMGUS_SAFETY_IMAGE_OUTPUT=block", "IMGUS_SAFETY_IMAGE_MODEL=" + t.TempDir()}, "safety.image.model", nil},
		"another shape": {[]string{"IMGUS_SAFETY_IMAGE_INPUT=flag", "IMGUS_SAFETY_IMAGE_MODEL=" + misfit}, "the manifest says [1 8 8 3]", nil},
		"not its own model": {[]string{"IMGUS_SAFETY_IMAGE_INPUT=flag", "IMGUS_SAFETY_IMAGE_MODEL=" + classifier}, "safety.image.model", func() {
			writeFile(t, filepath.Join(classifier, "model.onnx"), []byte("another"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.spoil != nil {
				tt.spoil()
			}
			p := newProgram(t, tt.environ...)
			if _, stderr := p.must(exitConfig, "generate", "--model", "demo", "--prompt", blue, "--output", t.TempDir()); !strings.Contains(stderr, tt.want) {
				t.Errorf("got %s", stderr)
			}
			p.environ = append(p.environ, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+t.TempDir())
			if _, stderr := p.must(exitConfig, "run"); !strings.Contains(stderr, tt.want) {
				t.Errorf("got %s", stderr)
			}
		})
	}
}

// Engines die at any moment, also while they look at a picture: what is done was
// looked at, and of what is refused nothing was stored.
func TestChecksSurviveTheirEngines(t *testing.T) {
	classifier, _ := redFilter(t)
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_WARM_UP=demo", "IMGUS_JOB_MAX_ATTEMPTS=20",
		"IMGUS_SAFETY_IMAGE_MODEL="+classifier, "IMGUS_SAFETY_IMAGE_OUTPUT=block")
	events := s.events()
	stop := s.daemon()
	var ids []string
	for i := range 16 {
		prompt := []string{blue, yellow}[i%2]
		j := &job.Job{
			Version: 1, ID: fmt.Sprint("job-", i), Kind: job.TextToImage, Model: "demo", Prompt: &prompt, Steps: new(4), Seed: new(int64(42)), Images: new(2),
		}
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	killed, ended, useful := 0, 0, true
	for m := range events {
		switch {
		case m.State.Final():
			ended, useful = ended+1, true
		case m.State == job.Running && m.Stage != job.StageFetch && useful && killed < 5:
			time.Sleep(rand.N(150 * time.Millisecond))
			for _, pid := range childrenOf(t, os.Getpid(), "engine") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed++
			}
			useful = false
		}
		if ended == len(ids) {
			break
		}
	}
	s.await(ids)
	if killed == 0 {
		t.Error("no engine was killed")
	}
	for i, id := range ids {
		r := s.record(id)
		if i%2 == 1 && (r.State != job.Failed || r.Error.Code != job.Refused) || i%2 == 0 && (r.State != job.Done || len(r.Safety) != len(r.Images)) {
			t.Errorf("%s: record is %+v, %+v", id, r, r.Error)
		}
		for object := range s.bucket.List(t.Context(), "results/"+id+"/") {
			if i%2 == 1 && !strings.HasSuffix(object.Key, ".json") {
				t.Errorf("%s is stored", object.Key)
			}
		}
	}
	t.Logf("%d engines killed", killed)
	if status, log := stop(); status != 0 {
		t.Errorf("exit status %d, log\n%s", status, log)
	}
}
