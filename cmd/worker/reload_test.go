package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/job"
)

// TestReload changes the file of a running worker: what can change does, what
// cannot is said, and a wrong file changes nothing.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "worker.yaml")
	write := func(text string) {
		t.Helper()
		// As Kubernetes and editors do it: another file takes the name.
		if err := os.Rename(writeFile(t, file+".new", []byte(text)), file); err != nil {
			t.Fatal(err)
		}
	}
	write("log: {level: info}\n")
	s := newStation(t, "IMGUS_CONFIG="+file, "IMGUS_HTTP_ADDRESS=", "IMGUS_ENGINE_ISOLATE=false", "IMGUS_JOB_TIMEOUT=8m")
	s.environ = slices.DeleteFunc(s.environ, func(v string) bool { return strings.HasPrefix(v, "IMGUS_LOG_LEVEL") })
	log, stop := s.watchedDaemon()
	log.await(t, "taking jobs")

	prompt := func(id string) *string {
		j := smallJob(1)
		j.ID = id
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		s.await([]string{id})
		r := s.record(id)
		if r.State != job.Done {
			t.Fatalf("record is %+v", r)
		}
		return r.Parameters.Prompt
	}
	if prompt("before") != nil {
		t.Error("a prompt is recorded")
	}
	write("record: {prompt: full}\njob: {max_attempts: 5, timeout: 9m}\nqueues: {other: 1}\nretention: {inputs: 2h}\n")
	log.await(t, "configuration read again", "record.prompt=full", "job.max_attempts=5", "retention.inputs=2h")
	log.await(t, "need a restart", `"queues"`)
	log.await(t, "variables win over the file", "job.timeout from IMGUS_JOB_TIMEOUT over ", "worker.yaml:2")
	if prompt("after") == nil {
		t.Error("record.prompt has not changed")
	}
	write("record: {prompt: loud}\nlog: {level: error}\n")
	log.await(t, "goes on with the old one", "record.prompt")
	if prompt("wrong") == nil {
		t.Error("a wrong file changed something")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.awaitTimes(t, 0, 2, "goes on with the old one")
	// A restart that is due is named each time; one that is not due any more is not.
	for _, step := range []struct {
		text string
		due  bool
	}{{"record: {prompt: full}\nqueues: {other: 2}\n", true}, {"record: {prompt: full}\n", false}} {
		before := len(log.String())
		write(step.text)
		log.awaitTimes(t, before, 1, "configuration read again")
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		log.awaitTimes(t, before, 2, "configuration read again")
		if n := strings.Count(log.String()[before:], "need a restart"); step.due && n == 0 || !step.due && n > 0 {
			t.Errorf("%q: a restart is said to be due %d times", step.text, n)
		}
	}
	write("log: {level: error}\n")
	for try := 0; prompt(fmt.Sprint("try-", try)) != nil; try++ {
		if try == 100 {
			t.Fatal("the file is not read any more")
		}
		time.Sleep(100 * time.Millisecond)
	}
	quiet := len(log.String())
	prompt("quiet")
	if text := log.String()[quiet:]; strings.Contains(text, "INFO") {
		t.Errorf("log.level has not changed: %s", text)
	}
	stop()
}

// awaitTimes waits until a text was written so often since a place of the log.
func (b *buffer) awaitTimes(t *testing.T, since, times int, text string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); strings.Count(b.String()[since:], text) < times; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%q is not there %d times in %s", text, times, b.String()[since:])
		}
	}
}

// TestReloadOfTheList: the list of prompts that are refused changes without a
// restart, by its own file too, and never to one that cannot be read.
func TestReloadOfTheList(t *testing.T) {
	dir := t.TempDir()
	list := writeFile(t, filepath.Join(dir, "words.txt"), []byte("purple\n"))
	file := writeFile(t, filepath.Join(dir, "worker.yaml"), []byte("log: {level: info}\n"))
	s := newStation(t, "IMGUS_CONFIG="+file, "IMGUS_HTTP_ADDRESS=", "IMGUS_ENGINE_ISOLATE=false")
	s.environ = slices.DeleteFunc(s.environ, func(v string) bool { return strings.HasPrefix(v, "IMGUS_LOG_LEVEL") })
	log, stop := s.watchedDaemon()
	log.await(t, "taking jobs")
	refused := func(id string) bool {
		t.Helper()
		j := smallJob(1)
		j.ID, j.Prompt = id, new("a purple circle")
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		s.await([]string{id})
		return s.record(id).State == job.Failed
	}
	if refused("off") {
		t.Error("refused without a check")
	}
	writeFile(t, file, []byte("safety: {prompt: {policy: block, list: "+list+"}}\n"))
	log.await(t, "configuration read again", "safety.prompt.policy=block")
	if !refused("listed") {
		t.Error("safety.prompt has not changed")
	}
	writeFile(t, list, []byte("re: (\n"))
	log.await(t, "goes on with the old one", "safety.prompt.list")
	if !refused("broken") {
		t.Error("a broken list changed something")
	}
	before := len(log.String())
	writeFile(t, list, []byte("green\n"))
	log.awaitTimes(t, before, 1, "the list of safety.prompt.list=sha256:")
	if refused("other") {
		t.Error("the list has not changed")
	}
	// A file that is gone is one error, and none of what follows from it.
	before = len(log.String())
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	log.awaitTimes(t, before, 1, "goes on with the old one")
	if text := log.String()[before:]; strings.Count(text, "goes on") != 1 || !strings.Contains(text, "no such file") {
		t.Errorf("of a file that is gone it says %s", text)
	}
	stop()
}
