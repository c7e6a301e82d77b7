package queue_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
)

// keyFolder has the keys of the ids; the same id is the same key everywhere.
func keyFolder(t testing.TB, ids ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, id := range ids {
		putKey(t, dir, id)
	}
	return dir
}

func putKey(t testing.TB, dir, id string) {
	t.Helper()
	key := []byte((id + strings.Repeat(".", 32))[:32])
	if err := os.WriteFile(filepath.Join(dir, id), []byte(base64.StdEncoding.EncodeToString(key)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sealedClient(t testing.TB, at queue.Connection, keys seal.Keys) *queue.Client {
	t.Helper()
	c, err := queue.NewClient(queue.ClientOptions{Connection: at, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A sealed job is done like any other, and at no time does Redis hold a word of
// it, neither in memory nor in its files.
func TestSealedJobs(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	at := queue.Connection{URL: server.Addr}
	ring := seal.Keys{Directory: keyFolder(t, "old", "new"), Key: "new", Required: true}
	c, r := sealedClient(t, at, ring), inspect(t, at)
	ids := []string{"fails-once", "cancelled", "simple", "by-the-old-key"}
	for _, id := range ids[:3] {
		enqueue(t, c, id)
	}
	ring.Key = "old"
	enqueue(t, sealedClient(t, at, ring), ids[3])
	checkUnread(t, r)

	h := newHandler(nil)
	h.process = oneOfEach(h)
	opts, log := options(at, h), &logged{}
	opts.Keys, opts.Log = ring, log.logger()
	w := start(t, opts)
	waitState(t, c, "cancelled", job.Running)
	checkUnread(t, r)
	if _, err := c.Cancel(t.Context(), "cancelled"); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		want := job.Done
		if id == "cancelled" {
			want = job.Cancelled
		}
		waitState(t, c, id, want)
	}
	w.stop()
	checkResidue(t, r)
	checkUnread(t, r)
	if strings.Contains(log.String(), secret) {
		t.Error("the log holds a prompt")
	}
	if attempts, _ := h.seen("fails-once"); len(attempts) != 2 {
		t.Errorf("tried %d times", len(attempts))
	}

	// The search would find a prompt that is not sealed.
	enqueue(t, client(t, at), "plain")
	if hits := unsealed(t, r); len(hits) < 2 {
		t.Errorf("a prompt in memory and in a file is found in %q", hits)
	}
}

func checkUnread(t testing.TB, r redis.UniversalClient) {
	t.Helper()
	for _, hit := range unsealed(t, r) {
		t.Errorf("%s holds a prompt", hit)
	}
}

// unsealed lists the keys of Redis and its files that hold a prompt.
func unsealed(t testing.TB, r redis.UniversalClient) (hits []string) {
	t.Helper()
	for _, key := range keys(t, r) {
		if containsSecret(t, r, key) {
			hits = append(hits, key)
		}
	}
	err := filepath.WalkDir(r.ConfigGet(t.Context(), "dir").Val()["dir"], func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(secret)) {
			hits = append(hits, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hits
}

// A job whose key a worker does not have waits for it, costs no attempt, and
// holds up nobody.
func TestSealedJobWaitsForItsKey(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		dir := keyFolder(t, "here")
		there := seal.Keys{Directory: keyFolder(t, "late"), Key: "late"}
		c := sealedClient(t, at, there)
		for _, id := range []string{"a", "b"} {
			enqueue(t, c, id)
		}
		h := newHandler(done)
		opts, log := options(at, h), &logged{}
		seen := &parkings{times: map[string]int{}}
		opts.Keys, opts.Log, opts.Observer = seal.Keys{Directory: dir}, log.logger(), seen
		w := start(t, opts)
		enqueue(t, sealedClient(t, at, seal.Keys{Directory: dir, Key: "here"}), "other")
		waitState(t, c, "other", job.Done)
		waits := func(id string) (found bool) {
			for e, err := range c.Entries(t.Context()) {
				found = found || err == nil && e.Job.ID == id && e.Waits
			}
			return found
		}
		for _, id := range []string{"a", "b"} {
			eventually(t, id+" to wait", func() bool { return waits(id) })
			if s := waitState(t, c, id, job.Queued); s.ErrorCode != "" {
				t.Errorf("%s failed with %s", id, s.ErrorCode)
			}
		}
		if !strings.Contains(log.String(), "key late") {
			t.Errorf("nobody is told which key: %s", log)
		}

		// However often it is tried, that costs no attempt; and one that was
		// cancelled waits too, since nobody could delete its photo.
		if _, err := c.Cancel(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.process = func(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
			if j.ID == "b" {
				return polite(ctx, j, a, report)
			}
			return done(ctx, j, a, report)
		}
		h.mu.Unlock()
		again := func(id string) { c.GoOn(queue.Entry{Queue: "interactive", Job: &job.Job{ID: id}}) }
		for range opts.MaxAttempts + 1 {
			for _, id := range []string{"a", "b"} {
				parked := seen.parked(id)
				again(id)
				eventually(t, id+" to wait again", func() bool { return seen.parked(id) > parked && waits(id) })
			}
		}
		putKey(t, dir, "late")
		again("a")
		again("b")
		waitState(t, c, "a", job.Done)
		waitState(t, c, "b", job.Cancelled)
		for _, id := range []string{"a", "b"} {
			if attempts, refused := h.seen(id); len(attempts) != 1 || len(refused) != 0 {
				t.Errorf("%s: attempts %v, refused for %v", id, attempts, refused)
			}
		}
		w.stop()
		checkResidue(t, inspect(t, at))
	})
}

// parkings counts how often jobs were found waiting for a person.
type parkings struct {
	begun

	mu    sync.Mutex
	times map[string]int
}

func (p *parkings) Began(ctx context.Context, _ string, _ map[string]string) context.Context {
	return ctx
}

func (p *parkings) Ended(_ context.Context, e queue.End) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Result == queue.Parked && e.Code == queue.WaitsForKey {
		p.times[e.Job.ID]++
	}
}

func (p *parkings) parked(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.times[id]
}

// A worker whose key of that id is the wrong one leaves the job to the others,
// but not for ever.
func TestWrongKeyOfTheSameID(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		dir := keyFolder(t, "k")
		c := sealedClient(t, at, seal.Keys{Directory: dir, Key: "k"})
		enqueue(t, c, "a")
		enqueue(t, c, "b")
		wrong := t.TempDir()
		if err := os.WriteFile(filepath.Join(wrong, "k"), []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))), 0o600); err != nil {
			t.Fatal(err)
		}
		h, seen := newHandler(done), &parkings{times: map[string]int{}}
		opts := options(at, h)
		opts.Keys, opts.Observer = seal.Keys{Directory: wrong}, seen
		w := start(t, opts)
		again := func(id string) { c.GoOn(queue.Entry{Queue: "interactive", Job: &job.Job{ID: id}}) }
		for n := 1; n < opts.MaxAttempts; n++ {
			eventually(t, "b to wait", func() bool { again("b"); return seen.parked("b") >= n })
		}
		eventually(t, "b to be given up", func() bool {
			again("b")
			s, _ := c.Status(t.Context(), "b")
			return s.State == job.Failed && s.ErrorCode == job.InvalidJob
		})
		eventually(t, "a to wait", func() bool { return seen.parked("a") > 0 })
		w.stop()
		opts.Keys = seal.Keys{Directory: dir}
		w = start(t, opts)
		eventually(t, "a to be done", func() bool {
			again("a")
			s, _ := c.Status(t.Context(), "a")
			return s.State == job.Done
		})
		w.stop()
		checkResidue(t, inspect(t, at))
	})
}

// What no key will ever open, and what is not sealed where it must be, ends as
// invalid.
func TestSealedJobsThatAreWrong(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		ring := seal.Keys{Directory: keyFolder(t, "k"), Key: "k", Required: true}
		r := inspect(t, at)
		box, err := ring.Seal([]byte(`{"version":1,"id":"moved","kind":"text-to-image","model":"demo","prompt":"p"}`), "batch", "moved")
		if err != nil {
			t.Fatal(err)
		}
		other, err := ring.Seal([]byte(`{"version":1,"id":"another","kind":"text-to-image","model":"demo","prompt":"p"}`), "interactive", "id-differs")
		if err != nil {
			t.Fatal(err)
		}
		cut := bytes.Replace(box, []byte(`"box":"`), []byte(`"box":"AAAA`), 1)
		payloads := map[string][]byte{
			"plain": []byte(`{"version":1,"id":"plain","kind":"image-to-image","model":"demo","prompt":"p","input":"inputs/photo","subject":"somebody"}`),
			"moved": box, "cut": bytes.ReplaceAll(cut, []byte("moved"), []byte("cut")), "id-differs": other,
			"malformed": []byte(`{"version":1,"id":"malformed","sealed":{}}`),
		}
		for id, payload := range payloads {
			if _, err := asynq.NewClientFromRedisClient(r).Enqueue(asynq.NewTask(job.TaskType, payload), asynq.TaskID(id), asynq.Queue("interactive")); err != nil {
				t.Fatal(err)
			}
		}
		c := sealedClient(t, at, ring)
		// What should have been sealed can be read all the same: it may be somebody's.
		if j, err := c.Waiting("plain"); err != nil || j.Subject == nil || len(j.InputKeys()) != 1 {
			t.Errorf("waiting: %+v, %v", j, err)
		}
		for e, err := range c.Entries(t.Context()) {
			if err != nil || e.Job.ID == "plain" && (e.Unreadable || e.Job.Subject == nil) {
				t.Errorf("entry: %+v, %v", e, err)
			}
		}
		refused := make(chan *job.Job, len(payloads))
		h := newHandler(done)
		opts := options(at, refusals{h, refused})
		opts.Keys = ring
		w := start(t, opts)
		for id := range payloads {
			eventually(t, id+" to fail", func() bool {
				if id != "plain" {
					c.GoOn(queue.Entry{Queue: "interactive", Job: &job.Job{ID: id}})
				}
				s, _ := c.Status(t.Context(), id)
				return s.State == job.Failed && s.ErrorCode == job.InvalidJob
			})
		}
		w.stop()
		close(refused)
		for j := range refused {
			if j.ID == "plain" && (j.Subject == nil || len(j.InputKeys()) != 1) {
				t.Errorf("refused as %+v: its photo cannot be deleted", j)
			}
		}
		checkResidue(t, r)
	})
}

// refusals passes on what is refused.
type refusals struct {
	*handler

	jobs chan<- *job.Job
}

func (r refusals) Refuse(ctx context.Context, j *job.Job, a job.Attempt, reason *job.Error) (job.Outcome, error) {
	r.jobs <- j
	return r.handler.Refuse(ctx, j, a, reason)
}

// Who has the keys knows what waits; who has not knows that it cannot be read.
func TestSealedEntries(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		ring := seal.Keys{Directory: keyFolder(t, "k"), Key: "k"}
		with, without := sealedClient(t, at, ring), client(t, at)
		j := newJob("a")
		j.Subject = new("somebody")
		if _, err := with.Enqueue(t.Context(), j, "interactive"); err != nil {
			t.Fatal(err)
		}
		if got, err := with.Waiting("a"); err != nil || got.Subject == nil || *got.Subject != "somebody" {
			t.Errorf("waiting: %+v, %v", got, err)
		}
		if got, err := without.Waiting("a"); !errors.Is(err, seal.ErrNoKey) || got != nil {
			t.Errorf("without the key: %+v, %v", got, err)
		}
		for c, unreadable := range map[*queue.Client]bool{with: false, without: true} {
			n := 0
			for e, err := range c.Entries(t.Context()) {
				if n++; err != nil || e.Unreadable != unreadable || e.Job.ID != "a" || e.Key != "k" || unreadable == (e.Job.Subject != nil) {
					t.Errorf("entry %+v, %v", e, err)
				}
			}
			if n != 1 {
				t.Errorf("%d entries", n)
			}
		}
		// The id is held by another queue, to which the box is bound then.
		if _, err := queue.PutStatus(t.Context(), inspect(t, at), queue.Status{ID: "half", Queue: "batch", State: job.Queued}); err != nil {
			t.Fatal(err)
		}
		enqueue(t, with, "half")
		h := newHandler(done)
		opts := options(at, h)
		opts.Keys = ring
		w := start(t, opts)
		for _, id := range []string{"a", "half"} {
			waitState(t, with, id, job.Done)
		}
		w.stop()
		if _, err := sealedClient(t, at, seal.Keys{Directory: ring.Directory, Key: "gone"}).Enqueue(t.Context(), newJob("c"), "interactive"); err == nil {
			t.Error("enqueued without the key")
		}
		if n := inspect(t, at).Exists(t.Context(), "imgus:job:c").Val(); n != 0 {
			t.Error("a job that could not be sealed left a status")
		}
	})
}
