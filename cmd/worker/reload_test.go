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
	s := newStation(t, "IMGUS_CONFIG="+file, "IMGUS_HTTP_ADDRESS=", "IMGUS_ENGINE_ISOLATE=false")
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
	write("record: {prompt: full}\njob: {max_attempts: 5}\nqueues: {other: 1}\n")
	log.await(t, "configuration read again", "record.prompt", "job.max_attempts")
	log.await(t, "need a restart", `"queues"`)
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
	for deadline := time.Now().Add(30 * time.Second); strings.Count(log.String(), "goes on with the old one") < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("SIGHUP changes nothing")
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
