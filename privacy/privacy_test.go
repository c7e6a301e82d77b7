package privacy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subject = "user-4711"
	other   = "user-4712"
)

var (
	key  = []byte("a key of at least thirty-two characters")
	anon = storage.Pseudonym(key, subject)
)

// queues is a queue in memory. Work that is stopped ends a question later.
type queues struct {
	mu      sync.Mutex
	entries map[string]privacy.Queued
	running map[string]int
	goneOn  []string
	before  func() error // of each call
}

func (q *queues) call() error {
	if q.before != nil {
		return q.before()
	}
	return nil
}

func (q *queues) Jobs(context.Context) iter.Seq2[privacy.Queued, error] {
	return func(yield func(privacy.Queued, error) bool) {
		if err := q.call(); err != nil {
			yield(privacy.Queued{}, err)
			return
		}
		q.mu.Lock()
		all := slices.Collect(maps.Values(q.entries))
		q.mu.Unlock()
		for _, entry := range all {
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func (q *queues) Stop(_ context.Context, id string) (bool, error) {
	if err := q.call(); err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running[id] > 0 {
		q.running[id]--
	}
	return q.running[id] > 0, nil
}

func (q *queues) Forget(_ context.Context, id string) (bool, error) {
	if err := q.call(); err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	_, found := q.entries[id]
	delete(q.entries, id)
	return found, nil
}

func (q *queues) GoOn(e privacy.Queued) { q.goneOn = append(q.goneOn, e.Job.ID) }

// world is a storage and queues with the jobs of two users in every state.
type world struct {
	memory *storagetest.MemoryBucket
	bucket *storagetest.FaultyBucket
	queues *queues
	rights *privacy.Rights
	theirs []string // the other user's keys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{memory: storagetest.Memory(), queues: &queues{entries: map[string]privacy.Queued{}, running: map[string]int{}}}
	w.bucket = storagetest.Faulty(w.memory)
	w.rights = privacy.New(privacy.Options{Bucket: w.bucket, Queue: w.queues, SubjectKey: key, Patience: 5 * time.Second, Version: "test"})
	for _, who := range []string{subject, other} {
		for _, state := range []string{"done", "kept", "failed", "half", "queued", "running", "retry"} {
			w.add(t, who, state)
		}
	}
	for _, key := range w.memory.Keys() {
		if !mine(key) {
			w.theirs = append(w.theirs, key)
		}
	}
	return w
}

func mine(key string) bool { return strings.Contains(key, subject) || strings.Contains(key, anon) }

// add puts a job of the user's in the state; its id begins with the user's name
// only to make the test readable.
func (w *world) add(t *testing.T, who, state string) {
	t.Helper()
	id := who + "-" + state
	input := "inputs/photos of " + who + "/" + state + ".jpg"
	put := func(key, data string) {
		if err := w.memory.Put(t.Context(), key, []byte(data), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	j := &job.Job{Version: 1, ID: id, Kind: job.ImageToImage, Model: "m", Prompt: new("a wish"), Input: &input, Subject: &who}
	image := storage.ImageKey(id, "t1", 0, job.PNG)
	record := fmt.Sprintf(`{"version":1,"id":%q,"state":"done","images":[{"key":%q,"sha256":%q}]}`, id, image, digest("image of "+id))
	entry := fmt.Sprintf(`{"version":1,"id":%q,"inputs":[%q]}`, id, input)
	indexed := state != "queued"
	if indexed {
		put(storage.SubjectKey(storage.Pseudonym(key, who), id), entry)
	}
	switch state {
	case "done", "kept":
		put(image, "image of "+id)
		put(storage.RecordKey(id), record)
		put(storage.DeletionsKey(id), "{}")
		if state == "kept" {
			put(input, "photo")
		}
		return
	case "failed":
		put(storage.RecordKey(id), fmt.Sprintf(`{"version":1,"id":%q,"state":"failed"}`, id))
		return
	case "half": // a worker died between the images and the record
		put(image, "image of "+id)
		put(input, "photo")
		return
	}
	put(input, "photo")
	w.queues.entries[id] = privacy.Queued{Queue: "interactive", Job: j, Active: state == "running", Waits: state == "retry"}
	if state == "running" {
		w.queues.running[id] = 2
		put(storage.ImageKey(id, "t0", 0, job.PNG), "of an attempt that died")
	}
}

// clean checks that nothing of the subject's is left but erased records, and
// everything of the other user's.
func (w *world) clean(t *testing.T) {
	t.Helper()
	var theirs []string
	records := 0
	for _, key := range w.memory.Keys() {
		switch {
		case !mine(key):
			theirs = append(theirs, key)
		case strings.HasSuffix(key, "/result.json"):
			records++
			data, err := w.memory.Get(t.Context(), key, storage.MaxRecord)
			if err != nil {
				t.Fatal(err)
			}
			var fields map[string]any
			if err := json.Unmarshal(data, &fields); err != nil || fields["state"] != "erased" || fields["erased_at"] == nil || len(fields) != 4 {
				t.Errorf("record is %s, %v", data, err)
			}
		default:
			t.Errorf("left: %s", key)
		}
	}
	if records != 7 {
		t.Errorf("%d erased records", records)
	}
	if !slices.Equal(theirs, w.theirs) {
		t.Errorf("of the other user %v became %v", w.theirs, theirs)
	}
	for id := range w.queues.entries {
		if mine(id) {
			t.Errorf("left in a queue: %s", id)
		}
	}
	if len(w.queues.entries) != 3 {
		t.Errorf("the queue has %d jobs", len(w.queues.entries))
	}
}

func TestErase(t *testing.T) {
	w := newWorld(t)
	receipt, err := w.rights.Erase(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	w.clean(t)
	if receipt.Jobs.Count != 7 || receipt.QueueEntries != 3 || receipt.Objects.Count < 10 || receipt.Bytes == 0 || receipt.Resumed || receipt.HoldKept || receipt.Subject != anon {
		t.Errorf("receipt is %+v", receipt)
	}
	data, err := json.Marshal(receipt)
	if err != nil || strings.Contains(string(data), "user-") {
		t.Errorf("the receipt tells %s", data)
	}
	// Once more finds nothing, and says so.
	again, err := w.rights.Erase(t.Context(), subject)
	if err != nil || again.Jobs.Count != 0 || again.Objects.Count != 0 || again.QueueEntries != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
	w.clean(t)
}

var errKilled = errors.New("killed")

// Whenever the erasure is killed, before or after any request that it makes,
// the next one completes it.
func TestEraseKilledAtEveryStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		steps := 0
		for ended := false; !ended; steps++ {
			w := newWorld(t)
			left := steps
			var mu sync.Mutex
			die := func() error {
				mu.Lock()
				defer mu.Unlock()
				if left--; left < 0 {
					return errKilled // and so is everything that follows
				}
				return nil
			}
			hook := func(context.Context, storagetest.Call) error { return die() }
			if after {
				// The request that kills is carried out, no other is.
				w.bucket.After(hook)
				w.bucket.Before(func(context.Context, storagetest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if left < 0 {
						return errKilled
					}
					return nil
				})
			} else {
				w.bucket.Before(hook)
			}
			w.queues.before = die
			_, err := w.rights.Erase(t.Context(), subject)
			ended = err == nil
			if !ended && !errors.Is(err, errKilled) {
				t.Fatalf("step %d: %v", steps, err)
			}
			w.bucket.Before(nil)
			w.bucket.After(nil)
			w.queues.before = nil
			if _, err := w.rights.Erase(t.Context(), subject); err != nil {
				t.Fatalf("step %d, again: %v", steps, err)
			}
			w.clean(t)
			if t.Failed() {
				t.Fatalf("killed at step %d, after it: %v", steps, after)
			}
		}
		t.Logf("killed at each of %d steps, after it: %v", steps, after)
	}
}

// Work that does not end stops the erasure short of deletion; the hold and the
// erased records stand, so that it can come to nothing.
func TestEraseBusy(t *testing.T) {
	w := newWorld(t)
	w.queues.running[subject+"-running"] = 1 << 30
	rights := privacy.New(privacy.Options{Bucket: w.bucket, Queue: w.queues, SubjectKey: key, Patience: 50 * time.Millisecond})
	if _, err := rights.Erase(t.Context(), subject); !errors.Is(err, privacy.ErrBusy) {
		t.Errorf("got %v", err)
	}
	if _, err := w.memory.Stat(t.Context(), storage.HoldKey(anon)); err != nil {
		t.Error("the hold is gone")
	}
	w.queues.running = map[string]int{}
	receipt, err := rights.Erase(t.Context(), subject)
	if err != nil || !receipt.Resumed || receipt.Jobs.Count != 7 {
		t.Errorf("again: %+v, %v", receipt, err)
	}
	w.clean(t)
}

// What nobody can read could be the subject's: the erasure does not claim to be
// complete.
func TestEraseUnreadable(t *testing.T) {
	w := newWorld(t)
	w.queues.entries["sealed"] = privacy.Queued{Queue: "batch", Job: &job.Job{ID: "sealed"}, Unreadable: true}
	if _, err := w.rights.Erase(t.Context(), subject); !errors.Is(err, privacy.ErrUnreadable) {
		t.Errorf("got %v", err)
	}
	delete(w.queues.entries, "sealed")
	// One that the index knows is the subject's all the same.
	e := w.queues.entries[subject+"-running"]
	w.queues.entries[subject+"-running"] = privacy.Queued{Queue: e.Queue, Job: &job.Job{ID: e.Job.ID}, Unreadable: true, Active: true}
	if _, err := w.rights.Erase(t.Context(), subject); err != nil {
		t.Error(err)
	}
	w.clean(t)
}

// A job that is enqueued while the erasure is at work is found by it, and an
// image that a worker puts late too.
func TestEraseMeetsNews(t *testing.T) {
	w := newWorld(t)
	var once sync.Once
	w.bucket.After(func(ctx context.Context, c storagetest.Call) error {
		if c.Op == storagetest.Put && strings.HasSuffix(c.Key, "/result.json") {
			once.Do(func() { w.add(t, subject, "later") })
		}
		if c.Op == storagetest.Remove && c.Number == 3 {
			return w.memory.Put(ctx, storage.ImageKey(subject+"-running", "t9", 0, job.PNG), []byte("late"), storage.PutOptions{})
		}
		return nil
	})
	receipt, err := w.rights.Erase(t.Context(), subject)
	if err != nil || receipt.Jobs.Count != 8 {
		t.Errorf("got %+v, %v", receipt, err)
	}
	for _, key := range w.memory.Keys() {
		if mine(key) && !strings.HasSuffix(key, "/result.json") {
			t.Errorf("left: %s", key)
		}
	}
}

func TestHold(t *testing.T) {
	w := newWorld(t)
	report, err := w.rights.Hold(t.Context(), subject)
	if want := (privacy.HoldReport{Subject: anon, Held: true, Waiting: 2, Running: 1}); err != nil || report != want {
		t.Errorf("got %+v, %v", report, err)
	}
	// An erasure leaves an operator's hold.
	receipt, err := w.rights.Erase(t.Context(), subject)
	if err != nil || !receipt.HoldKept || receipt.Resumed {
		t.Errorf("got %+v, %v", receipt, err)
	}
	if _, err := w.memory.Stat(t.Context(), storage.HoldKey(anon)); err != nil {
		t.Error("the hold is gone")
	}
	w.add(t, subject, "retry")
	report, err = w.rights.Release(t.Context(), subject)
	if want := (privacy.HoldReport{Subject: anon, Waiting: 1}); err != nil || report != want {
		t.Errorf("got %+v, %v", report, err)
	}
	if !slices.Equal(w.queues.goneOn, []string{subject + "-retry"}) {
		t.Errorf("let go: %v", w.queues.goneOn)
	}
	if _, err := w.memory.Stat(t.Context(), storage.HoldKey(anon)); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the hold: %v", err)
	}
}
