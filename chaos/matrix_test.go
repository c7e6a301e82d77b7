package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

var full = flag.Bool("matrix.full", false, "every point times every fault, in place of some")

// scenario is one job, one point of its life, and one thing that happens there.
type scenario struct {
	*station
	at     failpoint.Point
	signal string // the file by which the worker says that it is at the point
	first  *worker
}

// release lets the first worker go on.
func (s *scenario) release() { must(s.t, failpoint.Release(s.signal)) }

// fault is a way in which things go wrong. It begins with a worker that waits
// at the point and is over when nothing more will happen from outside.
type fault struct {
	name   string
	strike func(s *scenario)
}

var allFaults = []fault{
	{"worker killed", func(s *scenario) {
		s.first.kill()
		s.start()
	}},
	// The engine's process alone. Before the images are there this is a failed
	// attempt, afterwards nothing.
	{"engine killed", func(s *scenario) {
		engines := s.first.children()
		if len(engines) == 0 {
			s.t.Error("the worker has no engine process")
		}
		for _, pid := range engines {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it is there
		}
		s.release()
	}},
	{"redis away 3s", func(s *scenario) { s.redisAway(3 * time.Second) }},
	{"redis away 40s", func(s *scenario) { s.redisAway(40 * time.Second) }},
	{"redis hangs", func(s *scenario) {
		s.link.Stall()
		s.release()
		time.Sleep(6 * time.Second)
		must(s.t, s.link.Restore())
	}},
	{"storage refuses", func(s *scenario) {
		s.store.Refuse(true)
		s.release()
		time.Sleep(3 * time.Second)
		s.store.Refuse(false)
	}},
	{"reply lost", func(s *scenario) {
		s.store.LoseReplies(1)
		s.release()
	}},
	{"lease lost", func(s *scenario) {
		s.loseLease()
		s.release()
	}},
	{"lease lost and worker killed", func(s *scenario) {
		s.loseLease()
		s.first.kill()
		s.start()
	}},
	// The worker stands still until another has done its job, and then goes on
	// as if nothing had happened.
	{"worker frozen", func(s *scenario) {
		s.first.signal(syscall.SIGSTOP)
		s.start()
		s.awaitEnd()
		s.release()
		s.first.signal(syscall.SIGCONT)
	}},
	// The worker is cut off from Redis, not from the storage.
	{"worker cut off", func(s *scenario) {
		s.link.Cut()
		s.startAt(s.servers.redis.Addr)
		s.release()
		s.awaitEnd()
		must(s.t, s.link.Restore())
	}},
}

func (s *scenario) redisAway(d time.Duration) {
	s.link.Cut()
	s.release()
	time.Sleep(d)
	must(s.t, s.link.Restore())
}

func (s *scenario) loseLease() {
	must(s.t, s.redis.Del(s.t.Context(), "asynq:{interactive}:lease").Err())
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

// brief are the scenarios of every test run.
var brief = map[string][]failpoint.Point{
	"worker killed":   {failpoint.AttemptBegun, failpoint.MidDenoise, failpoint.AfterImagePut, failpoint.BeforeCommit, failpoint.AfterCommit, failpoint.AfterInputDelete, failpoint.BeforeAck},
	"engine killed":   {failpoint.RecordLookedUp, failpoint.MidDenoise},
	"redis away 3s":   {failpoint.Dequeued, failpoint.BeforeCommit, failpoint.BeforeStatus, failpoint.BeforeAck},
	"storage refuses": {failpoint.RecordLookedUp, failpoint.Encoded, failpoint.BeforeCommit, failpoint.BeforeInputDelete},
	"reply lost":      {failpoint.BeforeImagePut, failpoint.BeforeCommit, failpoint.BeforeInputDelete},
	"lease lost":      {failpoint.MidDenoise, failpoint.BeforeAck},
	"worker frozen":   {failpoint.InputFetched, failpoint.BeforeCommit},
}

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
	photo, err := filepath.Abs("../testdata/golden/photo-64x64-0.png")
	must(t, err)
	content, err := os.ReadFile(photo)
	must(t, err)
	short, long := pictures("template", 4), pictures("template", 150)
	short.Input, long.Input = &photo, &photo
	records := bytes.SplitAfter(expect(t, []*job.Job{short, long})(), []byte("\n"))

	db := 0
	for _, f := range allFaults {
		for _, at := range failpoint.All() {
			if !*full && !slices.Contains(brief[f.name], at) {
				continue
			}
			db++
			n := db
			t.Run(fmt.Sprintf("%s/%s", f.name, at), func(t *testing.T) {
				t.Parallel()
				id := fmt.Sprintf("job-%d", n)
				s := &scenario{station: newStation(t, shared, n), at: at}
				s.signal = filepath.Join(s.dir, "reached")
				killed := strings.HasSuffix(f.name, "worker killed")
				if at == failpoint.ModelLoaded || at == failpoint.MidDenoise {
					// The engine's process must not be through before it can be struck.
					s.run(f, pictures(id, 150), content)
					s.settle(bytes.Replace(records[1], []byte(`"template"`), []byte(`"`+id+`"`), 1), killed)
					return
				}
				s.run(f, pictures(id, 4), content)
				s.settle(bytes.Replace(records[0], []byte(`"template"`), []byte(`"`+id+`"`), 1), killed)
			})
		}
	}
}

// pictures is a job that passes every point.
func pictures(id string, steps int) *job.Job {
	prompt, strength, seed, images := marker, 0.5, int64(7), 2
	return &job.Job{
		Version: job.Version, ID: id, Kind: job.ImageToImage, Model: "sd1", Prompt: &prompt,
		Steps: &steps, Strength: &strength, Seed: &seed, Images: &images,
	}
}

func (s *scenario) run(f fault, j *job.Job, photo []byte) {
	s.t.Helper()
	input := storage.InputKey(j.ID, "input")
	j.Input = &input
	must(s.t, s.enqueue(s.t.Context(), j, "interactive", photo))
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
	if f.name == "worker killed" && slices.Index(failpoint.All(), s.at) >= slices.Index(failpoint.All(), failpoint.AfterCommit) {
		s.cheap(j.ID, struck)
	}
}

// cheap checks that the second delivery of a job that had ended took at most
// three requests to the store.
func (s *scenario) cheap(id string, since time.Time) {
	s.t.Helper()
	n := 0
	for _, e := range s.store.Entries(since) {
		if strings.Contains(e.Path, "/"+id+"/") {
			n++
		}
	}
	if n > 3 {
		s.t.Errorf("the second delivery took %d requests: %+v", n, s.store.Entries(since))
	}
}
