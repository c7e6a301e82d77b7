package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

// The same tests run for minutes by `make engine/crashes`, `engine/cancels` and
// `soak`. The times that they print hold for the machine they ran on.
var (
	crashes  = flag.Int("engine.crashes", 8, "how many engines are killed")
	cancels  = flag.Int("engine.cancels", 40, "how many jobs are cancelled")
	soakJobs = flag.Int("engine.soak", 60, "how many jobs are done in a row")
)

// deaths are how an engine is killed, SIGUSR1 by a crash in native code.
var deaths = []syscall.Signal{syscall.SIGUSR1, syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT}

// TestRecovery: after each death of its engine the next job is done. What that
// takes beyond the loading of the model is the start of a process.
func TestRecovery(t *testing.T) {
	pool := isolated(t, nil)
	// generate gives the time until the model was loaded, and what of it was the
	// loading. Only the newest progress may be told.
	generate := func(steps int) (ready, load time.Duration, err error) {
		start := time.Now()
		r, err := pool.Generate(t.Context(), inference.Request{Job: smallJob(steps), Progress: func(p job.Progress) {
			if p.Stage != job.StageLoad && ready == 0 {
				ready = time.Since(start)
			}
		}})
		if err != nil {
			return 0, 0, err
		}
		return ready, time.Duration(r.Timings[job.StageLoad]) * time.Millisecond, nil
	}
	if _, _, err := generate(2); err != nil {
		t.Fatal(err)
	}
	var all, beyond times
	for i := range *crashes {
		s := deaths[i%len(deaths)]
		pid := pool.Health()[0].PID
		timer := time.AfterFunc(time.Millisecond+rand.N(40*time.Millisecond), func() { _ = syscall.Kill(pid, s) })
		_, _, err := generate(150) // it takes longer than the timer
		timer.Stop()
		// A job that was not begun yet is given to the next engine.
		if err != nil && job.AsError(err).Code != job.EngineFailed {
			t.Fatalf("%s: %v", s, err)
		}
		ready, load, err := generate(2)
		if err != nil {
			t.Fatalf("the job after %s: %v", s, err)
		}
		all, beyond = append(all, ready), append(beyond, ready-load)
	}
	t.Logf("from the death of an engine to the next job at work: %s; without the loading of the model: %s", all, beyond)
	if h := pool.Health()[0]; h.Restarts != *crashes || h.State != remote.Ready {
		t.Errorf("%+v", h)
	}
}

// TestJobsSurviveTheirEngines: engines are killed while many jobs run, and one
// job kills its engine each time. That one fails after its attempts; all others
// are done, once.
func TestJobsSurviveTheirEngines(t *testing.T) {
	attempts := 4 // a job that is in hand at so many deaths is their reason
	if *crashes > 20 {
		attempts = 6
	}
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_ENGINE_WARM_UP=sd1", fmt.Sprint("IMGUS_JOB_MAX_ATTEMPTS=", attempts))
	events := s.events()
	stop := s.daemon()
	const poison = "job-020"
	ids := []string{}
	for i := range max(101, 4*(*crashes)) {
		j := smallJob(30)
		j.ID = fmt.Sprintf("job-%03d", i)
		if j.ID == poison {
			j.Steps, j.Width, j.Height = new(150), new(512), new(512) // it is caught at it
		}
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	killed := 0
	kill := func() {
		for _, pid := range childrenOf(t, os.Getpid(), "engine") {
			_ = syscall.Kill(pid, deaths[killed%len(deaths)])
			killed++
		}
	}
	// An engine is killed while it has a job, after it has done one: those that
	// die at once are left alone for longer and longer. The poison job is caught
	// each time.
	useful, ended := false, map[string]bool{}
	for m := range events {
		switch {
		case m.State.Final():
			useful, ended[m.ID] = useful || m.State == job.Done, true
		case m.State != job.Running:
		case m.ID == poison:
			if m.Stage == job.StageDenoise {
				kill()
			}
		case useful && killed < *crashes:
			time.Sleep(rand.N(40 * time.Millisecond))
			kill()
			useful = false
		}
		if ended[poison] && killed >= *crashes || len(ended) == len(ids) {
			break
		}
	}
	if killed < *crashes {
		t.Errorf("only %d engines were killed", killed)
	}
	s.await(ids)
	for _, id := range ids {
		r := s.record(id)
		switch {
		case id == poison && (r.State != job.Failed || r.Error.Code != job.EngineFailed || r.Attempt.Number < attempts):
			t.Errorf("the poison job's record is %+v", r)
		case id != poison && (r.State != job.Done || len(r.Images) != 1):
			t.Errorf("%s: record is %+v, %+v", id, r, r.Error)
		}
	}
	images := s.images()
	if len(images) != len(ids)-1 {
		t.Errorf("%d images of %d jobs", len(images), len(ids)-1)
	}
	t.Logf("%d engines killed under %d jobs: 0 lost, 0 published twice", killed, len(ids))
	if status, _ := stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if left := childrenOf(t, os.Getpid(), "engine"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// events are the changes of all jobs, as they are published.
func (s *station) events() iter.Seq[queue.Status] {
	s.t.Helper()
	subscription := s.redis.PSubscribe(s.t.Context(), "imgus:events:*")
	if _, err := subscription.Receive(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return func(yield func(queue.Status) bool) {
		defer subscription.Close()
		for message := range subscription.Channel() {
			var status queue.Status
			if err := json.Unmarshal([]byte(message.Payload), &status); err != nil {
				s.t.Errorf("event: %v", err)
			}
			if !yield(status) {
				return
			}
		}
	}
}

// images lists the keys of all images in the bucket.
func (s *station) images() []string {
	s.t.Helper()
	var keys []string
	for object, err := range s.bucket.List(s.t.Context(), storage.ResultPrefix) {
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.HasSuffix(object.Key, ".png") {
			keys = append(keys, object.Key)
		}
	}
	return keys
}

// TestCancelToIdle: an engine is idle within a step of a cancel; one that were
// not within the grace of 5 s would be ended, and its process another.
func TestCancelToIdle(t *testing.T) {
	pool := isolated(t, nil)
	step := time.Duration(0)
	for range 2 { // the first loads the model
		r, err := pool.Generate(t.Context(), inference.Request{Job: smallJob(50)})
		if err != nil {
			t.Fatal(err)
		}
		step = time.Duration(r.Timings[job.StageDenoise]) * time.Millisecond / 50
	}
	var took times
	before := pool.Health()[0]
	for i := range *cancels {
		if i == *cancels/4 { // warm
			before = pool.Health()[0]
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := pool.Generate(ctx, inference.Request{Job: smallJob(150)})
			ended <- err
		}()
		time.Sleep(rand.N(80 * time.Millisecond))
		start := time.Now()
		cancel(job.ErrCancelled)
		if err := <-ended; err != nil && !errors.Is(err, job.ErrCancelled) {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
		if status, err := pool.Status(t.Context()); err != nil || status.Busy != 0 {
			t.Fatalf("after the cancel: %+v, %v", status, err)
		}
	}
	after := pool.Health()[0]
	if after.PID != before.PID {
		t.Errorf("the engine was ended: %+v", after)
	}
	t.Logf("from %d cancels to an idle engine: %s; a step takes %s; resident %d MiB, then %d MiB", *cancels, took, step, before.Memory>>20, after.Memory>>20)
	if grown := after.Memory - before.Memory; grown > 32<<20 {
		t.Errorf("cancelled jobs left %d MiB in the engine's memory", grown>>20)
	}
}

// TestCancelledJobsLeaveNothing: jobs are cancelled at any moment, by the mark
// that users set. Those that were in time have a record that says so and no
// image; the others are done.
func TestCancelledJobsLeaveNothing(t *testing.T) {
	s := newStation(t, "IMGUS_LOG_LEVEL=error")
	stop := s.daemon()
	var ids []string
	for i := range *cancels {
		j := smallJob(60)
		j.ID = fmt.Sprintf("job-%03d", i)
		if _, err := s.client.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
		time.Sleep(rand.N(250 * time.Millisecond))
		// This one or an earlier one, in whatever state it is.
		victim := ids[max(len(ids)-1-rand.IntN(2), 0)]
		_, _ = s.client.Cancel(t.Context(), victim) // it may have ended
	}
	s.await(ids)
	if status, log := stop(); status != 0 {
		t.Errorf("exit status %d, log %s", status, log)
	}
	states := map[job.State]int{}
	named := map[string]bool{}
	for _, id := range ids {
		r := s.record(id)
		states[r.State]++
		if r.State == job.Cancelled && len(r.Images) > 0 || r.State == job.Done && len(r.Images) != 1 || !r.State.Final() || r.State == job.Failed {
			t.Errorf("%s: record is %+v, %+v", id, r, r.Error)
		}
		for _, image := range r.Images {
			named[image.Key] = true
		}
	}
	for _, key := range s.images() {
		if !named[key] {
			t.Errorf("%s is of no job that is done", key)
		}
	}
	t.Logf("%d jobs: %v", len(ids), states)
}

// times are sorted when they are printed.
type times []time.Duration

func (d times) String() string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[int(share*float64(len(d)-1)+0.5)].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("least %s, median %s, 99th percentile %s, longest %s", at(0), at(0.5), at(0.99), at(1))
}
