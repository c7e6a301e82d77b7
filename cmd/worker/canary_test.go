package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/canary"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

// process is worker run as a program of its own, with a folder for all that it
// could write: its log, its working directory, temporary files, caches.
type process struct {
	t     *testing.T
	dir   string
	pid   int
	ended chan struct{}
}

func (p *process) folder(name string) string { return filepath.Join(p.dir, name) }

// process starts worker run, allowed to dump core and told to log all it can.
func (s *station) process(environ ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, dir: s.t.TempDir(), ended: make(chan struct{})}
	for _, name := range []string{"work", "tmp", "cache"} {
		if err := os.Mkdir(p.folder(name), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	models, err := filepath.Abs(testModels)
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := os.Create(p.folder("log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -c unlimited && exec "$0" run`, program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.folder("work"), log, log
	cmd.Env = slices.Concat(s.environ, []string{
		"IMGUS_TEST_COMMAND=run", "IMGUS_MODELS_DIRECTORY=" + models, "IMGUS_LOG_LEVEL=debug", "TMPDIR=" + p.folder("tmp"), "XDG_CACHE_HOME=" + p.folder("cache"),
	}, environ)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(p.ended)
		defer log.Close()
		// The kernel ties the child's life to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ends is seen in its log
		}
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	s.t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// end sends the signal and waits until the program is gone.
func (p *process) end(signal syscall.Signal) {
	select {
	case <-p.ended:
		return
	default:
		_ = syscall.Kill(p.pid, signal) // it ends this moment
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.t.Errorf("it does not end by %s", signal)
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
		<-p.ended
	}
}

func (p *process) log() string { return string(readFile(p.t, p.folder("log"))) }

// leftNothing checks what the process has written anywhere.
func (p *process) leftNothing(set *canary.Set) {
	p.t.Helper()
	hits, err := set.FindInFiles(p.dir)
	if err != nil {
		p.t.Error(err)
	}
	for _, hit := range hits {
		p.t.Errorf("left: %s", hit)
	}
	for _, name := range []string{"work", "tmp"} { // no core, no scratch
		entries, err := os.ReadDir(p.folder(name))
		if err != nil || len(entries) > 0 {
			p.t.Errorf("%s has %v, %v", name, entries, err)
		}
	}
}

// dumpsCore checks that this machine would write a core of a process that does
// not forbid it, where the kernel says that it puts one beside the program.
func dumpsCore(t *testing.T) {
	t.Helper()
	pattern := string(readFile(t, "/proc/sys/kernel/core_pattern"))
	if strings.HasPrefix(pattern, "|") || strings.Contains(pattern, "/") {
		t.Logf("cores go elsewhere here: %s", pattern)
		return
	}
	cmd := exec.Command("/bin/sh", "-c", "ulimit -c unlimited && kill -ABRT $$")
	cmd.Dir = t.TempDir()
	_ = cmd.Run() // it kills itself
	if entries, err := os.ReadDir(cmd.Dir); err != nil || len(entries) == 0 {
		t.Fatalf("not even an open process leaves a core: %v", err)
	}
}

// A crash in the midst of a job, of the worker or of its engine, leaves no core,
// no file, and in the log nothing of the prompt or the photo.
func TestCrashesLeaveNothing(t *testing.T) {
	dumpsCore(t)
	for _, tt := range []struct {
		victim  string
		signal  syscall.Signal
		environ string
		says    string
	}{
		{"worker", syscall.SIGSEGV, "", "SIGSEGV"},
		{"worker", syscall.SIGABRT, "GOTRACEBACK=crash", "SIGABRT"},
		{"worker", syscall.SIGKILL, "", ""},
		{"engine", syscall.SIGSEGV, "GOTRACEBACK=crash", "SIGSEGV"},
		{"engine", syscall.SIGABRT, "", "SIGABRT"},
		{"engine", syscall.SIGKILL, "", "killed"},
	} {
		t.Run(tt.victim+" "+tt.signal.String(), func(t *testing.T) {
			s := newStation(t, "IMGUS_PRIVACY_SUBJECT_KEY="+strings.Repeat("5", 64))
			set := canary.New()
			key := storage.InputKey("long", set.Text("long", "name")+".jpg")
			if err := s.bucket.Put(t.Context(), key, set.JPEG("long"), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			s.enqueue(&job.Job{
				Version: 1, ID: "long", Kind: job.ImageToImage, Model: "sd1", Input: &key, Strength: new(1.0), Steps: new(150), Images: new(2), Width: new(256), Height: new(256),
				Prompt: new(set.Text("long", "prompt")), NegativePrompt: new(set.Text("long", "negative")), Subject: new(set.Text("long", "subject")),
			})
			p := s.process(tt.environ)
			s.until("long", func(q queue.Status) bool { return q.Stage == job.StageDenoise && q.Step > 0 })
			if tt.victim == "worker" {
				p.end(tt.signal)
			} else {
				for _, engine := range childrenOf(t, p.pid, "engine") {
					if limits := string(readFile(t, fmt.Sprintf("/proc/%d/limits", engine))); !strings.Contains(strings.Join(strings.Fields(limits), " "), "Max core file size 0 0") {
						t.Error("the engine may dump core")
					}
					_ = syscall.Kill(engine, tt.signal) // it ended by itself
				}
				s.until("long", func(q queue.Status) bool { return q.Attempt == 2 && q.Stage == job.StageDenoise })
				s.must(0, "cancel", "long")
				s.await([]string{"long"})
				p.end(syscall.SIGTERM)
			}
			p.leftNothing(set)
			if log := p.log(); !strings.Contains(log, tt.says) {
				t.Errorf("the log does not tell of %s: %s", tt.says, log)
			}
		})
	}
}

func (s *station) enqueue(j *job.Job) {
	s.t.Helper()
	if _, err := s.client.Enqueue(s.t.Context(), j, "interactive"); err != nil {
		s.t.Fatal(err)
	}
}

// eavesdrop collects what Redis publishes about jobs.
func (s *station) eavesdrop() (stop func() string) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	subscription := s.redis.PSubscribe(ctx, "imgus:*")
	if _, err := subscription.Receive(ctx); err != nil {
		s.t.Fatal(err)
	}
	heard := make(chan string, 1)
	go func() {
		var b strings.Builder
		for message := range subscription.Channel() {
			b.WriteString(message.Channel + " " + message.Payload + "\n")
		}
		heard <- b.String()
	}()
	return func() string {
		defer cancel()
		_ = subscription.Close() // ends the goroutine
		return <-heard
	}
}

// find searches Redis and the bucket as they stand.
func (s *station) find(set *canary.Set) (hits []string) {
	s.t.Helper()
	ctx := s.t.Context()
	keys, err := s.redis.Keys(ctx, "*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, key := range keys {
		for _, hit := range set.Find([]byte(key + s.redis.Dump(ctx, key).Val())) {
			hits = append(hits, "redis "+key+": "+hit)
		}
	}
	for object, err := range s.bucket.List(ctx, "") {
		if err != nil {
			s.t.Fatal(err)
		}
		data, err := s.bucket.Get(ctx, object.Key, 1<<24)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, hit := range set.Find(slices.Concat([]byte(object.Key+"\n"), data)) {
			hits = append(hits, "object "+object.Key+": "+hit)
		}
	}
	return hits
}

// Whatever becomes of a job, nothing of its prompts, its photo's metadata, its
// photo's name or its subject is in a record, a picture, a log or Redis once it
// has ended; and no job needs a temporary file.
func TestNothingSticks(t *testing.T) {
	s := newStation(t, "IMGUS_PRIVACY_SUBJECT_KEY="+strings.Repeat("5", 64))
	set := canary.New()
	put := func(id, field string, data []byte) *string {
		key := storage.InputKey(id, set.Text(id, field)+".jpg")
		if err := s.bucket.Put(t.Context(), key, data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		return &key
	}
	base := func(id string, kind job.Kind) *job.Job {
		return &job.Job{
			Version: 1, ID: id, Kind: kind, Model: "sd1", Prompt: new(set.Text(id, "prompt")), NegativePrompt: new(set.Text(id, "negative")),
			Subject: new(set.Text(id, "subject")), Steps: new(2), Width: new(64), Height: new(64),
		}
	}
	formats := job.Formats()
	var ids []string
	add := func(j *job.Job) {
		j.Output = &job.Output{Format: &formats[len(ids)%len(formats)]}
		s.enqueue(j)
		ids = append(ids, j.ID)
	}
	for i := range 3 {
		add(base(fmt.Sprint("text-", i), job.TextToImage))
		j := base(fmt.Sprint("jpeg-", i), job.ImageToImage)
		j.Input, j.Strength = put(j.ID, "name", set.JPEG(j.ID)), new(0.5)
		add(j)
		j = base(fmt.Sprint("png-", i), job.Inpaint)
		j.Input, j.Mask, j.Strength = put(j.ID, "name", set.PNG(j.ID)), put(j.ID, "mask", set.PNG(j.ID+"-mask")), new(0.5)
		add(j)
	}
	broken := base("broken", job.ImageToImage)
	photo := set.JPEG("broken")
	broken.Input = put("broken", "name", photo[:len(photo)/2])
	add(broken)
	missing := base("missing", job.ImageToImage)
	missing.Input = new(storage.InputKey("missing", set.Text("missing", "name")))
	add(missing)

	// Producers of others may send anything.
	producer := newForeignProducer(t, s.url)
	for id, more := range map[string]string{
		"typo":     `,"promt":"` + set.Text("typo", "prompt") + `"`,
		"type":     `,"prompt":["` + set.Text("type", "prompt") + `"]`,
		"no-json":  `,"prompt":"` + set.Text("no-json", "prompt") + `}`,
		"too-long": `,"prompt":"` + strings.Repeat(set.Text("too-long", "prompt"), 200) + `"`,
		"no-input": `,"prompt":"p","kind":"image-to-image","input":"elsewhere/` + set.Text("no-input", "name") + `"`,
	} {
		kind := `,"kind":"text-to-image"`
		if strings.Contains(more, "kind") {
			kind = ""
		}
		producer.enqueue(id, `{"version":1,"id":"`+id+`","model":"sd1"`+kind+more+`}`)
		ids = append(ids, id)
	}

	if len(s.find(set)) == 0 {
		t.Fatal("the search finds nothing even before the jobs are done")
	}
	events := s.eavesdrop()
	p := s.process("TMPDIR=/nowhere")
	s.await(ids)
	s.clean("no prompt holds this")
	p.end(syscall.SIGTERM)
	p.leftNothing(set)
	for _, hit := range slices.Concat(s.find(set), set.Find([]byte(events()))) {
		t.Errorf("left: %s", hit)
	}
	states := map[job.State]int{}
	for _, id := range ids {
		states[s.record(id).State]++
	}
	if states[job.Done] != 9 || states[job.Failed] != 7 {
		t.Errorf("jobs ended as %v", states)
	}
	if log := p.log(); !strings.Contains(log, "refusing job") {
		t.Errorf("the log tells nothing: %s", log)
	}
}
