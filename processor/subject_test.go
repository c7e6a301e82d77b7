package processor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

var subjectKey = []byte("a key of at least thirty-two characters")

const subject = "user-4711"

// withSubject is a fixture that keeps the index, and a job of the subject.
func withSubject(t *testing.T) (*fixture, *job.Job, string) {
	t.Helper()
	f := newFixture(t, processor.Recorder{})
	f.Processor = processor.New(processor.Options{Bucket: f.bucket, Engine: f.engine, SubjectKey: subjectKey, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	j := f.photo(t, "a")
	j.Subject = new(subject)
	return f, j, storage.Pseudonym(subjectKey, subject)
}

// The job stands in the index before anything is made for it, and for ever
// after. The key of a photo is in it only if the photo stays, since it may hold a
// file's name.
func TestSubjectIndex(t *testing.T) {
	for _, keep := range []bool{false, true} {
		f, j, who := withSubject(t)
		j.KeepInput = keep
		f.engine.generate = func(ctx context.Context) error {
			f.keys(t, "inputs/a/input", storage.SubjectKey(who, "a"))
			return nil
		}
		if _, err := f.Process(t.Context(), j, first("t1"), ignore); err != nil {
			t.Fatal(err)
		}
		inputs, marks := []string(nil), []string{storage.InputMark(subjectKey, "inputs/a/input")}
		if keep {
			inputs, marks = []string{"inputs/a/input"}, nil
		}
		data, err := f.memory.Get(t.Context(), storage.SubjectKey(who, "a"), 1000)
		var entry job.SubjectEntry
		if err != nil || json.Unmarshal(data, &entry) != nil || entry.ID != "a" || !slices.Equal(entry.Inputs, inputs) || !slices.Equal(entry.Marks, marks) {
			t.Errorf("the entry is %s, %v", data, err)
		}
		for _, key := range f.memory.Keys() {
			if strings.Contains(key, subject) {
				t.Errorf("a key tells the subject: %s", key)
			}
		}
	}
}

// So does one that never began.
func TestSubjectIndexWithoutWork(t *testing.T) {
	for name, end := range map[string]func(f *fixture, j *job.Job) (job.Outcome, error){
		"refused": func(f *fixture, j *job.Job) (job.Outcome, error) {
			return f.Refuse(t.Context(), j, first("t1"), job.Errorf(job.Expired, "too late"))
		},
		"cancelled": func(f *fixture, j *job.Job) (job.Outcome, error) { return f.Cancel(t.Context(), j, first("t1")) },
	} {
		f, j, who := withSubject(t)
		if _, err := end(f, j); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.keys(t, "results/a/deleted.json", "results/a/result.json", storage.SubjectKey(who, "a"))
	}
}

// A job that nobody could find again is not begun.
func TestSubjectWithoutKey(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	j.Subject = new(subject)
	outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
	if err != nil || outcome.State != job.Failed || outcome.Code != job.InvalidJob || f.engine.calls != 0 {
		t.Errorf("got %+v, %v, %d inferences", outcome, err, f.engine.calls)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json")
	if r := f.record(t, "a"); !strings.Contains(r.Error.Message, "privacy.subject_key") || strings.Contains(r.Error.Message, subject) {
		t.Errorf("the message is %q", r.Error.Message)
	}
}

// The index that cannot be written is trouble that passes, and no picture is
// made meanwhile.
func TestSubjectIndexUnavailable(t *testing.T) {
	for _, op := range []storagetest.Op{storagetest.Put, storagetest.Stat} {
		f, j, _ := withSubject(t)
		f.bucket.Before(storagetest.Fail(op, 1, storage.ErrUnavailable))
		if _, err := f.Process(t.Context(), j, first("t1"), ignore); err == nil || !job.AsError(err).Passing() || f.engine.calls != 0 {
			t.Errorf("%s: got %v, %d inferences", op, err, f.engine.calls)
		}
	}
}

// On hold nothing is begun, refused or deleted.
func TestHeld(t *testing.T) {
	f, j, who := withSubject(t)
	f.put(t, storage.HoldKey(who), []byte("{}"))
	before := append(f.memory.Keys(), storage.SubjectKey(who, "a"))
	if _, err := f.Process(t.Context(), j, first("t1"), ignore); !errors.Is(err, job.ErrHeld) {
		t.Errorf("process: %v", err)
	}
	if _, err := f.Refuse(t.Context(), j, first("t2"), job.Errorf(job.Expired, "too late")); !errors.Is(err, job.ErrHeld) {
		t.Errorf("refuse: %v", err)
	}
	f.keys(t, before...)
	if f.engine.calls != 0 {
		t.Error("the engine was asked")
	}
	// Anybody else's go on, and this one when the hold has ended.
	other := text("b")
	other.Subject = new("somebody else")
	if o, err := f.Process(t.Context(), other, first("t3"), ignore); err != nil || o.State != job.Done {
		t.Errorf("another's: %+v, %v", o, err)
	}
	if err := f.memory.Delete(t.Context(), storage.HoldKey(who)); err != nil {
		t.Fatal(err)
	}
	if o, err := f.Process(t.Context(), j, first("t4"), ignore); err != nil || o.State != job.Done {
		t.Errorf("afterwards: %+v, %v", o, err)
	}
}

// A hold that comes while the job is put into the index is still seen: an
// erasure that did not see the entry has put its hold before.
func TestHeldMeanwhile(t *testing.T) {
	f, j, who := withSubject(t)
	f.bucket.Before(func(ctx context.Context, c storagetest.Call) error {
		if c.Op == storagetest.Put && c.Key == storage.SubjectKey(who, "a") {
			return f.memory.Put(ctx, storage.HoldKey(who), []byte("{}"), storage.PutOptions{})
		}
		return nil
	})
	if _, err := f.Process(t.Context(), j, first("t1"), ignore); !errors.Is(err, job.ErrHeld) || f.engine.calls != 0 {
		t.Errorf("got %v, %d inferences", err, f.engine.calls)
	}
}

// An erasure at any moment of an attempt leaves the erased record and nothing
// else, and a duplicate that is delivered later brings nothing back.
func TestErasedAtEveryStep(t *testing.T) {
	steps := 0
	for ended := false; !ended; steps++ {
		f, j, who := withSubject(t)
		left := steps
		erase := func(ctx context.Context) {
			record := fmt.Appendf(nil, `{"version":1,"id":%q,"state":"erased","erased_at":"2026-01-02T03:04:05Z"}`, j.ID)
			for _, key := range f.memory.Keys() {
				_ = f.memory.Delete(ctx, key)
			}
			_ = f.memory.Put(ctx, storage.RecordKey(j.ID), record, storage.PutOptions{})
		}
		f.bucket.Before(func(ctx context.Context, _ storagetest.Call) error {
			if left == 0 {
				erase(ctx)
			}
			left--
			return nil
		})
		outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
		ended = left >= 0
		if ended {
			break
		}
		f.bucket.Before(nil)
		// What was decided before the erasure may be told; it is gone all the same.
		if err != nil && !errors.Is(err, job.ErrHeld) && !job.AsError(err).Passing() {
			t.Errorf("step %d: %+v, %v", steps, outcome, err)
		}
		f.put(t, *j.Input, []byte("photo"))
		outcome, err = f.Process(t.Context(), j, job.Attempt{ID: "t2", Number: 2}, ignore)
		if err != nil || outcome.State != job.Erased {
			t.Errorf("step %d, delivered again: %+v, %v", steps, outcome, err)
		}
		f.keys(t, storage.RecordKey(j.ID))
		if t.Failed() {
			t.Fatalf("erased before request %d of an attempt; the subject is %s", steps, who)
		}
	}
	t.Logf("erased before each of %d requests", steps)
}
