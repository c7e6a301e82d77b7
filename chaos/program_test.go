package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/chaos/faults"
	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// single is a station of its own with one job, whose photo is a file.
func single(t *testing.T) (s *station, j *job.Job, photo, expected []byte) {
	t.Helper()
	s = newStation(t, servers{redis: testservices.StartRedis(t, testservices.RedisOptions{}), s3: testservices.StartS3(t)}, 0)
	file, err := filepath.Abs("../testdata/golden/photo-64x64-0.png")
	must(t, err)
	photo, err = os.ReadFile(file)
	must(t, err)
	j = pictures("one", shortSteps)
	j.Input = &file
	expected = expect(t, []*job.Job{j})()
	key := storage.InputKey(j.ID, "input")
	j.Input = &key
	return s, j, photo, expected
}

func (s *station) reach(signal string) {
	s.t.Helper()
	if err := await(time.Minute, func() (bool, error) {
		_, err := os.Stat(signal)
		return err == nil, err
	}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *station) awaitNoTask() {
	s.t.Helper()
	if err := await(2*time.Minute, func() (bool, error) {
		n, err := s.tasks(s.t.Context())
		return n == 0, err
	}); err != nil {
		s.t.Fatal("a job has not ended: ", err)
	}
}

// A second signal ends a worker whose job does not stop, long before its grace
// is over; another worker does the job, and nothing is left.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s, j, photo, expected := single(t)
	signal := filepath.Join(s.dir, "reached")
	must(t, s.enqueue(t.Context(), j, "interactive", photo))
	w := s.start("IMGUS_JOB_SHUTDOWN_GRACE=1h", failpoint.Variable+"="+failpoint.Order(failpoint.MidDenoise, signal))
	s.reach(signal)
	w.signal(syscall.SIGTERM)
	select {
	case <-w.ended:
		t.Fatal("it did not wait for its job: ", w.err)
	case <-time.After(3 * time.Second):
	}
	second, engines := time.Now(), w.children()
	w.signal(syscall.SIGTERM)
	select {
	case <-w.ended:
		t.Logf("ended %.1f s after the second signal", time.Since(second).Seconds())
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	for _, pid := range engines {
		if err := await(10*time.Second, func() (bool, error) { return syscall.Kill(pid, 0) != nil, nil }); err != nil {
			t.Error("its engine still runs: ", err)
		}
	}
	s.start()
	s.awaitNoTask()
	s.settle(expected, true)
}

// A storage that goes away stops the worker from taking jobs and costs no job an
// attempt; the picture that is made waits for it. It is asked to connect at most
// twice a second.
func TestStorageAway(t *testing.T) {
	t.Parallel()
	s, j, photo, expected := single(t)
	link, err := faults.NewLink(s.store.Addr())
	must(t, err)
	t.Cleanup(link.Close)
	signal := filepath.Join(s.dir, "reached")
	must(t, s.enqueue(t.Context(), j, "interactive", photo))
	w := s.start("IMGUS_STORAGE_ENDPOINT="+link.Addr(), failpoint.Variable+"="+failpoint.Order(failpoint.Encoded, signal))
	s.reach(signal)
	link.Cut()
	knocks := testservices.CountKnocks(t, link.Addr())
	must(t, failpoint.Release(signal))
	const seconds = 20
	time.Sleep(seconds / 2 * time.Second)
	lines := strings.SplitAfter(string(expected), "\n")[:1]
	for i := range 4 {
		other := *j
		other.ID = fmt.Sprintf("waits-%d", i)
		key := storage.InputKey(other.ID, "input")
		other.Input = &key
		must(t, s.enqueue(t.Context(), &other, "batch", photo))
		lines = append(lines, strings.Replace(lines[0], `"one"`, `"`+other.ID+`"`, 1))
	}
	time.Sleep(seconds / 2 * time.Second)
	n := knocks.Count()
	if n == 0 || n > 2*seconds {
		t.Errorf("%d connections in %d seconds", n, seconds)
	}
	if n := s.redis.LLen(t.Context(), "asynq:{batch}:pending").Val(); n != 4 {
		t.Errorf("%d of 4 jobs wait in the queue", n)
	}
	late := s.start("IMGUS_STORAGE_ENDPOINT=" + link.Addr())
	must(t, await(time.Minute, func() (bool, error) {
		log, err := os.ReadFile(late.log)
		return strings.Contains(string(log), "storage is away"), err
	}))
	knocks.Close()
	must(t, link.Restore())
	s.awaitNoTask()
	for _, id := range []string{"one", "waits-0", "waits-3"} {
		data, err := s.bucket.Get(t.Context(), storage.RecordKey(id), storage.MaxRecord)
		must(t, err)
		r, err := job.DecodeRecord(data)
		must(t, err)
		if r.Attempt.Number != 1 {
			t.Errorf("%s took %d attempts", id, r.Attempt.Number)
		}
	}
	must(t, await(time.Minute, func() (bool, error) {
		log, err := os.ReadFile(late.log)
		return strings.Contains(string(log), "taking jobs"), err
	}))
	for _, w := range []*worker{w, late} {
		log, err := os.ReadFile(w.log)
		must(t, err)
		for _, says := range []string{"storage is away", "storage is back"} {
			if n := strings.Count(string(log), says); n != 1 {
				t.Errorf("%q stands %d times in the log of %s", says, n, w.name)
			}
		}
	}
	t.Logf("%d connections in %d seconds", n, seconds)
	s.settle([]byte(strings.Join(lines, "")), false)
}
