package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/demo"
)

// sample is what the worker holds at a moment: the parent in this process, and
// its engine.
type sample struct {
	parent, child         int64 // resident memory in bytes
	goroutines            int
	parentFiles, children int // open descriptors, and those of the child
}

// TestSoak does one job after another, and nothing grows. In a short run they
// are small.
func TestSoak(t *testing.T) {
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_WARM_UP="+demo.Name)
	stop := s.daemon()
	var samples []sample
	every := max(*soakJobs/10, 1)
	var took times
	for i := range *soakJobs {
		j := &job.Job{Version: 1, ID: fmt.Sprintf("job-%05d", i), Kind: job.TextToImage, Model: demo.Name, Prompt: new(demo.Prompt), Seed: new(int64(i))}
		if *soakJobs < 1000 {
			j.Steps, j.Width, j.Height = new(4), new(128), new(128)
		}
		start := time.Now()
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		s.await([]string{j.ID})
		took = append(took, time.Since(start))
		if r := s.record(j.ID); r.State != job.Done {
			t.Fatalf("record is %+v, %+v", r, r.Error)
		}
		if (i+1)%every == 0 {
			now := s.sample()
			samples = append(samples, now)
			t.Logf("%5d jobs: worker %d MiB, %d goroutines, %d files; engine %d MiB, %d files; a job takes %s",
				i+1, now.parent>>20, now.goroutines, now.parentFiles, now.child>>20, now.children, took)
			took = nil
		}
	}
	if status, log := stop(); status != 0 {
		t.Errorf("exit status %d, log %s", status, log)
	}
	warm, last := samples[len(samples)/5], samples[len(samples)-1]
	if last.goroutines > warm.goroutines+5 || last.parentFiles > warm.parentFiles+5 || last.children > warm.children+2 {
		t.Errorf("goroutines or files are left: %+v, then %+v", warm, last)
	}
	const slack = 16 << 20
	if last.parent > warm.parent+warm.parent/10+slack || last.child > warm.child+warm.child/10+slack {
		t.Errorf("memory grows: %+v, then %+v", warm, last)
	}
}

func (s *station) sample() sample {
	s.t.Helper()
	debug.FreeOSMemory()
	now := sample{parent: residentOf(s.t, os.Getpid()), goroutines: runtime.NumGoroutine(), parentFiles: filesOf(s.t, os.Getpid())}
	for _, pid := range childrenOf(s.t, os.Getpid(), "engine") {
		now.child += residentOf(s.t, pid)
		now.children += filesOf(s.t, pid)
	}
	return now
}

func residentOf(t *testing.T, pid int) int64 {
	t.Helper()
	text := readFile(t, "/proc", strconv.Itoa(pid), "statm")
	pages, err := strconv.ParseInt(string(bytes.Fields(text)[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// filesOf is how many files a process has open; an engine does not let others
// look, but root.
func filesOf(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil && !os.IsPermission(err) {
		t.Fatal(err)
	}
	return len(entries)
}
