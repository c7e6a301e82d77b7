package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/chaos/faults"
	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

var full = flag.Bool("matrix.full", false, "every point times every fault, in place of some")

// scenario is one job, one point of its life, and one thing that happens there.
type scenario struct {
	*station
	job    *job.Job
	at     failpoint.Point
	signal string // the file by which the worker says that it is at the point
	first  *worker
}

// release lets the first worker go on.
func (s *scenario) release() { must(s.t, failpoint.Release(s.signal)) }

// TestMatrix: whatever happens wherever, the job has exactly one visible result
// in the end, and nothing is left over.
func TestMatrix(t *testing.T) {
	shared := servers{
		redis: testservices.StartRedis(t, testservices.RedisOptions{Args: []string{"--databases", "512"}}),
		s3:    testservices.StartS3(t),
	}
	worker, _ := programs(t)
	t.Cleanup(func() {
		if left := survivors(worker); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
	})
	file, err := filepath.Abs("../testdata/golden/photo-64x64-0.png")
	must(t, err)
	photo, err := os.ReadFile(file)
	must(t, err)
	short, long := pictures("template", shortSteps), pictures("template", longSteps)
	short.Input, long.Input = &file, &file
	records := bytes.SplitAfter(expect(t, []*job.Job{short, long})(), []byte("\n"))

	db := 0
	for _, f := range allFaults {
		for _, at := range failpoint.All() {
			if !*full && !slices.Contains(brief[f.name], at) || f.refused && makesPictures(at) {
				continue
			}
			db++
			n := db
			t.Run(fmt.Sprintf("%s/%s", f.name, at), func(t *testing.T) {
				t.Parallel()
				s := &scenario{station: newStation(t, shared, n), at: at, job: pictures(fmt.Sprintf("job-%d", n), shortSteps)}
				s.signal = filepath.Join(s.dir, "reached")
				content, record := photo, records[0]
				if at == failpoint.ModelLoaded || at == failpoint.MidDenoise {
					// The engine's process must not be through before it can be struck.
					s.job = pictures(s.job.ID, longSteps)
					record = records[1]
				}
				switch {
				case f.refused:
					content, record = []byte("no photo"), []byte(`{"id":"template","state":"failed"}`)
				case f.cancels && before(at, failpoint.AfterCommit):
					record = []byte(`{"id":"template","state":"cancelled"}`)
				}
				s.run(f, content)
				expected := bytes.Replace(record, []byte(`"template"`), []byte(`"`+s.job.ID+`"`), 1)
				s.settle(expected, f.leaves)
			})
		}
	}
}

const shortSteps, longSteps = 4, 150

// pictures is a job that passes every point.
func pictures(id string, steps int) *job.Job {
	prompt, strength, seed, images := marker, 0.5, int64(7), 2
	return &job.Job{
		Version: job.Version, ID: id, Kind: job.ImageToImage, Model: "sd1", Prompt: &prompt,
		Steps: &steps, Strength: &strength, Seed: &seed, Images: &images,
	}
}

// before reports whether a job passes p before q.
func before(p, q failpoint.Point) bool {
	return slices.Index(failpoint.All(), p) < slices.Index(failpoint.All(), q)
}

// makesPictures reports whether a job passes the point only if it has a photo.
func makesPictures(p failpoint.Point) bool {
	return !before(p, failpoint.ModelLoaded) && before(p, failpoint.BeforeCommit)
}

func (s *scenario) run(f fault, photo []byte) {
	s.t.Helper()
	input := storage.InputKey(s.job.ID, "input")
	s.job.Input = &input
	must(s.t, s.enqueue(s.t.Context(), s.job, "interactive", photo))
	s.first = s.start(failpoint.Variable + "=" + failpoint.Order(s.at, s.signal))
	err := await(time.Minute, func() (bool, error) {
		_, err := os.Stat(s.signal)
		return err == nil, err
	})
	if err != nil {
		s.t.Fatalf("the worker does not come to %s: %v", s.at, err)
	}
	struck := time.Now()
	f.strike(s)
	s.awaitEnd()
	if strings.HasSuffix(f.name, "worker killed") && !before(s.at, failpoint.AfterCommit) {
		s.cheap(struck)
	}
}

// awaitEnd waits until asynq has nothing of the job any more.
func (s *scenario) awaitEnd() {
	s.t.Helper()
	err := await(2*time.Minute, func() (bool, error) {
		n, err := s.tasks(s.t.Context())
		return n == 0, err
	})
	if err != nil {
		s.t.Fatal("the job has not ended: ", err)
	}
}

// cheap checks that the second delivery of a job that had ended took at most
// three requests to the store.
func (s *scenario) cheap(since time.Time) {
	s.t.Helper()
	var requests []faults.Entry
	for _, e := range s.store.Entries(since) {
		if strings.Contains(e.Path, "/"+s.job.ID+"/") {
			requests = append(requests, e)
		}
	}
	if len(requests) > 3 {
		s.t.Errorf("the second delivery took %d requests: %+v", len(requests), requests)
	}
}
