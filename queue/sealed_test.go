package queue_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
		opts.Keys, opts.Log = seal.Keys{Directory: dir}, log.logger()
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

		// One is cancelled although nobody can read it; the other's key comes.
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
		c.GoOn(queue.Entry{Queue: "interactive", Job: &job.Job{ID: "b"}})
		waitState(t, c, "b", job.Cancelled)
		putKey(t, dir, "late")
		c.GoOn(queue.Entry{Queue: "interactive", Job: &job.Job{ID: "a"}})
		waitState(t, c, "a", job.Done)
		if attempts, refused := h.seen("a"); len(attempts) != 1 || len(refused) != 0 {
			t.Errorf("attempts %v, refused for %v", attempts, refused)
		}
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
			"plain": []byte(`{"version":1,"id":"plain","kind":"text-to-image","model":"demo","prompt":"p"}`),
			"moved": box, "cut": bytes.ReplaceAll(cut, []byte("moved"), []byte("cut")), "id-differs": other,
			"malformed": []byte(`{"version":1,"id":"malformed","sealed":{}}`),
		}
		for id, payload := range payloads {
			if _, err := asynq.NewClientFromRedisClient(r).Enqueue(asynq.NewTask(job.TaskType, payload), asynq.TaskID(id), asynq.Queue("interactive")); err != nil {
				t.Fatal(err)
			}
		}
		h := newHandler(done)
		opts := options(at, h)
		opts.Keys = ring
		w := start(t, opts)
		c := sealedClient(t, at, ring)
		for id := range payloads {
			if s := waitState(t, c, id, job.Failed); s.ErrorCode != job.InvalidJob {
				t.Errorf("%s failed with %s", id, s.ErrorCode)
			}
		}
		w.stop()
		checkResidue(t, r)
	})
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
		if got, err := without.Waiting("a"); err != nil || got.ID != "a" || got.Subject != nil {
			t.Errorf("without the key: %+v, %v", got, err)
		}
		for c, unreadable := range map[*queue.Client]bool{with: false, without: true} {
			n := 0
			for e, err := range c.Entries(t.Context()) {
				if n++; err != nil || e.Unreadable != unreadable || e.Job.ID != "a" || unreadable == (e.Job.Subject != nil) {
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
