package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/canary"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
	"github.com/imgus/worker/storage"
)

// TestCanaryRun does 300 sealed jobs with canaries in their prompts and
// photos, while workers, engines and Redis crash. No byte of a canary is ever in
// the memory or the files of Redis, in a metric or an event; and in the end none
// is in the storage, in a log, or in any place that a worker could write to.
func TestCanaryRun(t *testing.T) {
	const canaries = 300
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "key"), []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))))
	keys := seal.Keys{Directory: dir, Key: "key", Required: true}
	redis := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	store := testservices.StartS3(t)
	s := newStationOn(t, redis.Addr, store, keys,
		"IMGUS_PRIVACY_SUBJECT_KEY="+strings.Repeat("5", 64), "IMGUS_SEAL_DIRECTORY="+dir, "IMGUS_SEAL_REQUIRED=true", "IMGUS_JOB_MAX_ATTEMPTS=10")
	set := canary.New()
	run := &canaryRun{station: s, set: set, keys: keys}
	for i := range canaries {
		run.add(i)
	}
	if hits := run.inStorage(store.Folder); len(hits) < canaries {
		t.Fatalf("the search finds only %d of the photos that wait", len(hits))
	}

	heard := s.eavesdrop()
	type serving struct {
		*process
		at endpoint
	}
	start := func(environ ...string) serving {
		at := newEndpoint(t)
		return serving{s.process(append(environ, "IMGUS_HTTP_ADDRESS="+string(at))...), at}
	}
	var all []serving
	workers := []serving{start(), start()}
	engine := func(signal syscall.Signal) func() {
		return func() {
			for _, pid := range childrenOf(t, workers[1].pid, "engine") {
				_ = syscall.Kill(pid, signal) // it ended by itself
			}
		}
	}
	worker := func(signal syscall.Signal, environ ...string) func() {
		return func() {
			workers[0].end(signal)
			all = append(all, workers[0])
			workers[0] = start(environ...)
		}
	}
	strikes := []func(){
		engine(syscall.SIGSEGV), worker(syscall.SIGKILL, "GOTRACEBACK=crash"), func() { redis.Kill(); redis.Start() },
		engine(syscall.SIGKILL), worker(syscall.SIGABRT), engine(syscall.SIGABRT), worker(syscall.SIGSEGV), func() { redis.Kill(); redis.Start() },
	}
	for i, strike := range strikes {
		run.until((i + 1) * canaries / (len(strikes) + 1))
		for _, w := range workers {
			run.check("metrics", set.Find([]byte(w.at.metrics(t))))
		}
		run.check("Redis amid the jobs", run.inRedis())
		strike()
	}
	run.until(canaries)
	s.await(run.ids)
	s.clean("no prompt holds this")
	for _, w := range workers {
		run.check("metrics", set.Find([]byte(w.at.metrics(t))))
		w.end(syscall.SIGTERM)
	}
	for _, w := range append(all, workers...) {
		w.leftNothing(set)
	}
	run.check("Redis", run.inRedis())
	run.check("events", set.Find([]byte(heard())))
	run.check("storage", run.inStorage(store.Folder))

	states := map[job.State]int{}
	attempts := 0
	for _, id := range run.ids {
		r := s.record(id)
		states[r.State]++
		if r.Attempt != nil {
			attempts += r.Attempt.Number - 1
		}
	}
	t.Logf("%d jobs ended as %v, %d attempts among them were not the first", canaries, states, attempts)
	if want := canaries / 10; states[job.Failed] != want || states[job.Done] != canaries-want {
		t.Errorf("jobs ended as %v", states)
	}

	// The search would find a prompt that is not sealed.
	newForeignProducer(t, s.url).enqueue("plain", `{"prompt":"`+set.Text("plain", "prompt")+`"}`)
	hits := strings.Join(run.inRedis(), "\n")
	for _, place := range []string{"memory", "aof", "redis asynq:{batch}:t:plain"} {
		if !strings.Contains(hits, place) {
			t.Errorf("a prompt that is not sealed is not found in %s: %s", place, hits)
		}
	}
}

func (e endpoint) metrics(t *testing.T) string {
	t.Helper()
	status, body := e.get("/metrics")
	if status != 200 {
		t.Logf("a worker that starts has no metrics yet: %d", status)
	}
	return body
}

// canaryRun is the jobs and the places to search.
type canaryRun struct {
	*station

	set  *canary.Set
	keys seal.Keys
	ids  []string
}

// add enqueues the ith job: each kind, each format, and among ten one that
// fails.
func (c *canaryRun) add(i int) {
	c.t.Helper()
	id := fmt.Sprintf("job-%03d", i)
	c.ids = append(c.ids, id)
	put := func(place string, photo []byte) *string {
		key := storage.InputKey(id, c.set.Text(id, place))
		if err := c.bucket.Put(c.t.Context(), key, photo, storage.PutOptions{}); err != nil {
			c.t.Fatal(err)
		}
		return &key
	}
	j := &job.Job{
		Version: 1, ID: id, Kind: job.TextToImage, Model: "sd1", Prompt: new(c.set.Text(id, "prompt")), NegativePrompt: new(c.set.Text(id, "negative")),
		Subject: new(c.set.Text(id, "subject")), Steps: new(2), Width: new(64), Height: new(64),
		Output: &job.Output{Format: &job.Formats()[i%len(job.Formats())]},
	}
	switch i % 10 {
	case 0:
		photo := c.set.PNG(id)
		j.Kind, j.Input, j.Strength = job.ImageToImage, put("name", photo[:len(photo)/2]), new(0.5)
	case 1, 2, 3:
		j.Kind, j.Input, j.Strength = job.ImageToImage, put("name", c.set.JPEG(id)), new(0.5)
	case 4, 5, 6:
		j.Kind, j.Input, j.Strength = job.ImageToImage, put("name", c.set.PNG(id)), new(0.5)
	case 7:
		j.Kind, j.Input, j.Mask, j.Strength = job.Inpaint, put("name", c.set.PNG(id)), put("mask", c.set.PNG(id+"-mask")), new(0.5)
	}
	c.enqueue(j)
}

// until waits until so many jobs have a record. It asks the storage, since Redis
// may be away.
func (c *canaryRun) until(n int) {
	c.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		ended := 0
		for object, err := range c.bucket.List(c.t.Context(), storage.ResultPrefix) {
			if err != nil {
				c.t.Fatal(err)
			}
			if strings.HasSuffix(object.Key, "/result.json") {
				ended++
			}
		}
		if ended >= n {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d of %d jobs have ended", ended, n)
		}
	}
}

func (c *canaryRun) check(place string, hits []string) {
	c.t.Helper()
	for _, hit := range hits {
		c.t.Errorf("%s: %s", place, hit)
	}
}

// inRedis searches what Redis shows, what its process has in memory, and its
// files.
func (c *canaryRun) inRedis() (hits []string) {
	c.t.Helper()
	ctx := c.t.Context()
	keys, err := c.redis.Keys(ctx, "*").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, key := range keys {
		for _, hit := range c.set.Find([]byte(key + c.redis.Dump(ctx, key).Val())) {
			hits = append(hits, "redis "+key+": "+hit)
		}
	}
	files, err := c.set.FindInFiles(c.redis.ConfigGet(ctx, "dir").Val()["dir"])
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.Concat(hits, files, c.inMemory(c.redis.InfoMap(ctx, "server").Val()["Server"]["process_id"]))
}

// inMemory searches all that a process can write to.
func (c *canaryRun) inMemory(pid string) (hits []string) {
	c.t.Helper()
	maps, err := os.Open("/proc/" + pid + "/maps")
	if err != nil {
		c.t.Fatal(err)
	}
	defer maps.Close()
	memory, err := os.Open("/proc/" + pid + "/mem")
	if errors.Is(err, os.ErrPermission) {
		c.t.Log("the memory of Redis cannot be read here")
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	defer memory.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		data := make([]byte, to-from)
		n, err := io.ReadFull(io.NewSectionReader(memory, from, to-from), data)
		if err != nil && n == 0 {
			continue // the kernel's own
		}
		for _, hit := range c.set.Find(data[:n]) {
			hits = append(hits, "memory: "+hit)
		}
	}
	return hits
}

// inStorage searches the objects as the server keeps them: names, contents, and
// the attributes in which it has their metadata and tags.
func (c *canaryRun) inStorage(folder string) []string {
	c.t.Helper()
	hits, err := c.set.FindInFiles(folder)
	if err != nil {
		c.t.Fatal(err)
	}
	attributes, err := c.set.FindInAttributes(folder)
	if err != nil {
		c.t.Fatal(err)
	}
	return append(hits, attributes...)
}
