package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// How much chaos there is. The defaults are for every test run; `make chaos`
// has more.
var (
	chaosSeed     = flag.Uint64("chaos.seed", 0, "what happens when; 0 is a new one each time")
	chaosJobs     = flag.Int("chaos.jobs", 120, "how many jobs")
	chaosTime     = flag.Duration("chaos.time", 100*time.Second, "for how long jobs come and things break")
	chaosWorkers  = flag.Int("chaos.workers", 3, "how many workers")
	chaosKills    = flag.Duration("chaos.kills", 5*time.Second, "how often a worker is struck")
	chaosRestarts = flag.Int("chaos.restarts", 3, "how often Redis is killed and started again")
	chaosFaults   = flag.Float64("chaos.faults", 0.01, "the part of requests to the storage that fail")
)

// chaos is one run.
type chaos struct {
	*station
	random   *rand.Rand
	running  []*worker
	strikes  map[string]int
	restarts []time.Time // when Redis was there again
	robbed   robberies
}

// TestChaos: workers are killed and Redis is restarted at random moments while
// jobs come in. In the end each job has the pictures that it would have had
// alone, and nothing is left over.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: make chaos SEED=%[1]d does the same again, as far as time allows", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	shared := servers{redis: testservices.StartRedis(t, testservices.RedisOptions{Persist: true}), s3: testservices.StartS3(t)}
	c := &chaos{station: newStation(t, shared, 0), random: random, strikes: map[string]int{}}
	// A job that is in hand whenever a worker dies counts as the reason after
	// three times. Here it is not.
	c.environ = append(c.environ, "IMGUS_JOB_MAX_ATTEMPTS=20", "IMGUS_JOB_SHUTDOWN_GRACE=1s", "IMGUS_LOG_LEVEL=warn")
	worker, _ := programs(t)

	photos := readPhotos(t)
	jobs := make([]*job.Job, *chaosJobs)
	for i := range jobs {
		jobs[i] = randomJob(random, fmt.Sprintf("job-%04d", i), photos)
	}
	expected := expect(t, jobs)

	c.store.Shake(seed, *chaosFaults)
	for range *chaosWorkers {
		c.running = append(c.running, c.startAt(shared.redis.Addr))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	produced := make(chan error, 1)
	go func() { produced <- c.produce(ctx, jobs, photos) }()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		c.follow(ctx)
	}()
	c.havoc(*chaosTime)
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	err := await(5*time.Minute, func() (bool, error) {
		n, err := c.tasks(t.Context())
		return n == 0, err
	})
	if err != nil {
		t.Error("jobs have not ended: ", err)
	}
	time.Sleep(200 * time.Millisecond) // for the last to be seen
	cancel()
	<-followed
	c.settle(expected(), true)
	if left := survivors(worker); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	c.tell()
}

// readPhotos are the photos of the jobs, by their path.
func readPhotos(t *testing.T) map[string][]byte {
	t.Helper()
	photos := map[string][]byte{}
	for i := range 3 {
		file, err := filepath.Abs(fmt.Sprintf("../testdata/golden/photo-64x64-%d.png", i))
		must(t, err)
		photos[file], err = os.ReadFile(file)
		must(t, err)
	}
	return photos
}

// randomJob takes from 20 milliseconds to two seconds. Its input is a path.
func randomJob(random *rand.Rand, id string, photos map[string][]byte) *job.Job {
	prompt, seed := fmt.Sprintf("%s, number %d", marker, random.IntN(1000)), random.Int64N(1<<32)
	side, steps, images, strength := 64*(1+random.IntN(4)/3), 20+random.IntN(131), 1+random.IntN(3), 0.3+0.7*random.Float64()
	j := &job.Job{
		Version: job.Version, ID: id, Kind: job.TextToImage, Model: "sd1", Prompt: &prompt, Seed: &seed, Steps: &steps, Images: &images,
	}
	j.Width, j.Height = &side, &side
	if random.IntN(2) == 0 {
		return j
	}
	files := slices.Sorted(maps.Keys(photos))
	j.Kind, j.Strength, j.Input = job.ImageToImage, &strength, &files[random.IntN(len(files))]
	return j
}

// produce enqueues the jobs, evenly over the time.
func (c *chaos) produce(ctx context.Context, jobs []*job.Job, photos map[string][]byte) error {
	begin := time.Now()
	for i, j := range jobs {
		select {
		case <-time.After(time.Until(begin.Add(*chaosTime * time.Duration(i) / time.Duration(len(jobs))))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		sent := *j
		var photo []byte
		if j.Input != nil {
			key := storage.InputKey(j.ID, "input")
			sent.Input, photo = &key, photos[*j.Input]
		}
		if err := c.enqueue(ctx, &sent, []string{"interactive", "batch"}[i%2], photo); err != nil {
			return fmt.Errorf("enqueue %s: %w", j.ID, err)
		}
	}
	return nil
}

// event is something that happens at its time.
type event struct {
	at   time.Duration
	what func()
}

// havoc lets things happen for so long.
func (c *chaos) havoc(d time.Duration) {
	var events []event
	for at := *chaosKills; at < d; at += *chaosKills {
		jitter := time.Duration(c.random.Int64N(int64(*chaosKills))) - *chaosKills/2
		events = append(events, event{at + jitter, c.strike})
	}
	for i := range *chaosRestarts {
		between := d / time.Duration(*chaosRestarts)
		at := between*time.Duration(i) + time.Duration(c.random.Int64N(int64(between)))
		events = append(events, event{at, c.restartRedis})
	}
	slices.SortFunc(events, func(a, b event) int { return int(a.at - b.at) })
	begin := time.Now()
	for _, e := range events {
		time.Sleep(time.Until(begin.Add(e.at)))
		e.what()
	}
	time.Sleep(time.Until(begin.Add(d)))
}

// strike does something to one of the workers.
func (c *chaos) strike() {
	n := c.random.IntN(len(c.running))
	w := c.running[n]
	kind := []string{"kill", "kill", "kill", "kill", "kill", "kill", "kill", "stop", "freeze", "engine"}[c.random.IntN(10)]
	c.strikes[kind]++
	switch kind {
	case "engine":
		for _, pid := range w.children() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		return
	case "freeze": // for longer than its marks last
		w.signal(syscall.SIGSTOP)
		time.AfterFunc(20*time.Second, func() { w.signal(syscall.SIGCONT) })
		return
	case "stop":
		if err := w.stop(time.Minute); err != nil && w.alive() {
			c.t.Error(err)
		}
	case "kill":
		c.rob(w)
		w.kill()
	}
	c.running[n] = c.startAt(c.servers.redis.Addr)
}

func (c *chaos) restartRedis() {
	c.servers.redis.Kill()
	time.Sleep(200*time.Millisecond + time.Duration(c.random.Int64N(int64(3*time.Second))))
	c.servers.redis.Start()
	c.restarts = append(c.restarts, time.Now())
}
