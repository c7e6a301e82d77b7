package processor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is a stub that gives two images, or what generate says.
type engine struct {
	mu       sync.Mutex
	calls    int
	seen     inference.Request
	generate func(ctx context.Context) error
}

func (e *engine) Generate(ctx context.Context, r inference.Request) (*inference.Result, error) {
	e.mu.Lock()
	e.calls++
	r.Input = bytes.Clone(r.Input)
	e.seen = r
	e.mu.Unlock()
	if e.generate != nil {
		if err := e.generate(ctx); err != nil {
			return nil, err
		}
	}
	result := &inference.Result{Model: job.ModelInfo{Name: "m"}, Timings: job.Timings{job.StageDenoise: 5}}
	for i := range 2 {
		result.Images = append(result.Images, inference.Image{Data: fmt.Appendf(nil, "image %d", i), Format: job.PNG, Width: 8, Height: 8, Seed: int64(i)})
	}
	return result, nil
}

// fixture is a processor on a bucket in memory with faults.
type fixture struct {
	*processor.Processor

	memory *storagetest.MemoryBucket
	bucket *storagetest.FaultyBucket
	engine *engine
}

func newFixture(t *testing.T, record processor.Recorder) *fixture {
	t.Helper()
	memory := storagetest.Memory()
	f := &fixture{memory: memory, bucket: storagetest.Faulty(memory), engine: &engine{}}
	f.Processor = processor.New(processor.Options{Bucket: f.bucket, Engine: f.engine, Record: record, Patience: time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	return f
}

func text(id string) *job.Job {
	created := time.Now().Add(-time.Second)
	return &job.Job{Version: 1, ID: id, Kind: job.TextToImage, Model: "m", Prompt: new("a secret wish"), CreatedAt: &created}
}

func (f *fixture) photo(t *testing.T, id string) *job.Job {
	t.Helper()
	j := text(id)
	j.Kind, j.Input = job.ImageToImage, new(storage.InputKey(id, "input"))
	if err := f.memory.Put(t.Context(), *j.Input, []byte("photo"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	return j
}

func first(id string) job.Attempt { return job.Attempt{ID: id, Number: 1} }

func ignore(job.Progress) {}

func (f *fixture) record(t *testing.T, id string) *job.Record {
	t.Helper()
	data, err := f.memory.Get(t.Context(), storage.RecordKey(id), storage.MaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	r, err := job.DecodeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fixture) keys(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.memory.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestDone(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	var stages []job.Stage
	outcome, err := f.Process(t.Context(), j, first("t1"), func(p job.Progress) { stages = append(stages, p.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	outcome.Record = nil
	if want := (job.Outcome{State: job.Done, RecordKey: "results/a/result.json"}); outcome != want {
		t.Errorf("outcome is %+v", outcome)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json", "results/a/t1-0.png", "results/a/t1-1.png")
	if string(f.engine.seen.Input) != "photo" {
		t.Error("the engine did not get the photo")
	}
	if diff := cmp.Diff([]job.Stage{job.StageFetch, job.StageStore}, stages); diff != "" {
		t.Error(diff)
	}
	r := f.record(t, "a")
	if r.Images[1].Key != "results/a/t1-1.png" || r.Images[1].Seed != 1 || r.Images[1].Bytes != 7 || len(r.Images[1].SHA256) != 64 {
		t.Errorf("image is %+v", r.Images[1])
	}
	for _, stage := range []job.Stage{job.StageQueued, job.StageFetch, job.StageDenoise, job.StageStore, job.StageTotal} {
		if _, ok := r.Timings[stage]; !ok {
			t.Errorf("no timing of %s", stage)
		}
	}
	data, err := f.memory.Get(t.Context(), storage.DeletionsKey("a"), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	var deletions job.Deletions
	if err := json.Unmarshal(data, &deletions); err != nil || len(deletions.Deleted) != 2 || deletions.Deleted[1].What != "input" || deletions.Deleted[1].At.IsZero() {
		t.Errorf("deletions are %s, %v", data, err)
	}
	if got := f.memory.ContentType("results/a/t1-0.png"); got != "image/png" {
		t.Errorf("content type is %s", got)
	}
}

func TestPromptInRecordOnlyWhenAskedFor(t *testing.T) {
	for _, prompts := range []bool{false, true} {
		f := newFixture(t, processor.Recorder{Prompts: prompts})
		if _, err := f.Process(t.Context(), text("a"), first("t1"), ignore); err != nil {
			t.Fatal(err)
		}
		data, err := f.memory.Get(t.Context(), storage.RecordKey("a"), storage.MaxRecord)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(data, []byte("secret")); got != prompts {
			t.Errorf("prompts %v: the record is %s", prompts, data)
		}
	}
}

func TestKeepInput(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	j.KeepInput = true
	if _, err := f.Process(t.Context(), j, first("t1"), ignore); err != nil {
		t.Fatal(err)
	}
	if _, err := f.memory.Stat(t.Context(), *j.Input); err != nil {
		t.Error("the input is gone")
	}
}

// A redelivered job whose record stands costs no inference, and its deletion is
// made up for.
func TestReplay(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	f.bucket.Before(storagetest.Fail(storagetest.Delete, 1, storage.ErrUnavailable))
	if _, err := f.Process(t.Context(), j, first("t1"), ignore); err == nil || job.AsError(err).Code != job.StorageUnavailable {
		t.Fatalf("a deletion that failed was passed over: %v", err)
	}
	if outcome, err := f.Process(t.Context(), j, job.Attempt{ID: "t2", Number: 2}, ignore); err != nil || outcome.State != job.Done {
		t.Fatalf("got %+v, %v", outcome, err)
	}
	if f.engine.calls != 1 {
		t.Errorf("%d inferences", f.engine.calls)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json", "results/a/t1-0.png", "results/a/t1-1.png")
}

// requests are all that the storage was asked for.
func (f *fixture) requests() (n int) {
	for _, op := range []storagetest.Op{storagetest.Get, storagetest.Put, storagetest.PutIfAbsent, storagetest.Delete, storagetest.Stat, storagetest.List, storagetest.Check} {
		n += f.bucket.Calls(op)
	}
	return n
}

// A finished job that is delivered again costs no inference and at most three
// requests.
func TestReplayIsCheap(t *testing.T) {
	for name, prepare := range map[string]func(f *fixture) *job.Job{
		"text":  func(*fixture) *job.Job { return text("a") },
		"photo": func(f *fixture) *job.Job { return f.photo(t, "a") },
		"mask": func(f *fixture) *job.Job {
			j := f.photo(t, "a")
			j.Kind, j.Mask = job.Inpaint, new(storage.InputKey("a", "mask"))
			f.put(t, *j.Mask, []byte("mask"))
			return j
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, processor.Recorder{})
			j := prepare(f)
			first, err := f.Process(t.Context(), j, first("t1"), ignore)
			if err != nil {
				t.Fatal(err)
			}
			keys, before := f.memory.Keys(), f.requests()
			again, err := f.Process(t.Context(), j, job.Attempt{ID: "t2", Number: 2}, ignore)
			if again.Record == nil || again.Record.Attempt.ID != "t1" {
				t.Errorf("the record is %+v", again.Record)
			}
			again.Record, first.Record = nil, nil
			if err != nil || again != first || f.engine.calls != 1 {
				t.Errorf("%+v became %+v, %v; %d inferences", first, again, err, f.engine.calls)
			}
			if n := f.requests() - before; n > 3 {
				t.Errorf("%d requests", n)
			}
			f.keys(t, keys...)
		})
	}
}

// Whatever was decided while an attempt was at work stands: a cancelled, failed
// or erased job does not come back.
func TestDecidedMeanwhile(t *testing.T) {
	for _, state := range []job.State{job.Cancelled, job.Failed, job.Erased} {
		t.Run(string(state), func(t *testing.T) {
			f := newFixture(t, processor.Recorder{})
			j := f.photo(t, "a")
			record := fmt.Sprintf(`{"version":1,"id":"a","state":%q,"kind":"image-to-image","attempt":{"id":"other","number":2},"created_at":"2026-01-02T03:04:05Z"}`, state)
			switch state {
			case job.Failed:
				record = strings.Replace(record, `"attempt"`, `"error":{"code":"internal","message":"m"},"attempt"`, 1)
			case job.Erased:
				record = `{"version":1,"id":"a","state":"erased","erased_at":"2026-01-02T03:04:05Z"}`
			}
			f.engine.generate = func(ctx context.Context) error {
				f.put(t, storage.RecordKey("a"), []byte(record))
				return nil
			}
			outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
			if err != nil || outcome.State != state {
				t.Errorf("got %+v, %v", outcome, err)
			}
			want := []string{"results/a/deleted.json", "results/a/result.json"}
			if state == job.Erased {
				want = want[1:]
			}
			f.keys(t, want...)
			if r := f.record(t, "a"); r.State != state {
				t.Errorf("the record became %+v", r)
			}
		})
	}
}

func TestFinalErrors(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(f *fixture, j *job.Job)
		want    job.Code
	}{
		{"missing input", func(f *fixture, j *job.Job) { j.Input = new("inputs/nothing") }, job.InputMissing},
		{"foreign key", func(f *fixture, j *job.Job) { j.Input = new("results/other/result.json") }, job.InvalidJob},
		{"climbing key", func(f *fixture, j *job.Job) { j.Input = new("inputs/../results/other/result.json") }, job.InvalidJob},
		{"large input", func(f *fixture, j *job.Job) { f.put(t, *j.Input, make([]byte, 20<<20+1)) }, job.InputTooLarge},
		{"unreadable input", func(f *fixture, j *job.Job) {
			f.bucket.Before(func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Get && c.Key == *j.Input {
					return storage.ErrUnreadable
				}
				return nil
			})
		}, job.InputInvalid},
		{"corrupt input", func(f *fixture, j *job.Job) { f.memory.Corrupt(*j.Input) }, job.InputInvalid},
		{"engine refuses", func(f *fixture, _ *job.Job) {
			f.engine.generate = func(context.Context) error { return job.Errorf(job.UnknownModel, "no such model") }
		}, job.UnknownModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, processor.Recorder{})
			j := f.photo(t, "a")
			tt.prepare(f, j)
			outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
			if err != nil || outcome.State != job.Failed || outcome.Code != tt.want {
				t.Fatalf("got %+v, %v", outcome, err)
			}
			r := f.record(t, "a")
			if r.State != job.Failed || r.Error.Code != tt.want || r.Error.Message == "" || len(r.Images) > 0 {
				t.Errorf("record is %+v", r)
			}
		})
	}
}

func (f *fixture) put(t *testing.T, key string, data []byte) {
	t.Helper()
	if err := f.memory.Put(t.Context(), key, data, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestPassingTroubleWritesNothing(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name    string
		prepare func(f *fixture)
		want    job.Code
		left    []string
	}{
		{"lookup", func(f *fixture) { f.bucket.Before(storagetest.Fail(storagetest.Get, 1, storage.ErrUnavailable)) }, job.StorageUnavailable, nil},
		{"put", func(f *fixture) { f.bucket.Before(storagetest.Fail(storagetest.Put, 1, storage.ErrUnavailable)) }, job.StorageUnavailable, nil},
		{"second put", func(f *fixture) {
			f.bucket.Before(func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Put && c.Number == 2 {
					return storage.ErrUnavailable
				}
				return nil
			})
		}, job.StorageUnavailable, nil},
		{"commit", func(f *fixture) {
			f.bucket.Before(storagetest.Fail(storagetest.PutIfAbsent, 100, storage.ErrUnavailable))
		}, job.StorageUnavailable, []string{"results/a/t1-0.png", "results/a/t1-1.png"}}, // it may land yet
		{"engine", func(f *fixture) {
			f.engine.generate = func(context.Context) error { return job.Wrap(job.EngineFailed, boom, "the engine failed") }
		}, job.EngineFailed, nil},
		{"bug", func(f *fixture) { f.engine.generate = func(context.Context) error { return boom } }, job.Internal, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, processor.Recorder{})
			tt.prepare(f)
			_, err := f.Process(t.Context(), text("a"), first("t1"), ignore)
			if err == nil || job.AsError(err).Code != tt.want {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			f.keys(t, tt.left...)
		})
	}
}

// The answer to the commit is lost although it happened: the attempt is still
// the winner, and its images stay.
func TestCommitWhoseAnswerIsLost(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	f.bucket.After(func(_ context.Context, c storagetest.Call) error {
		if c.Op == storagetest.PutIfAbsent && c.Key == storage.RecordKey("a") {
			return storage.ErrUnavailable
		}
		return nil
	})
	outcome, err := f.Process(t.Context(), text("a"), first("t1"), ignore)
	if err != nil || outcome.State != job.Done {
		t.Fatalf("got %+v, %v", outcome, err)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json", "results/a/t1-0.png", "results/a/t1-1.png")
}

// When it cannot even be found out who won, nothing is deleted.
func TestUnknownCommitKeepsTheImages(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	f.bucket.After(func(_ context.Context, c storagetest.Call) error {
		if c.Op == storagetest.PutIfAbsent {
			f.bucket.Before(storagetest.Fail(storagetest.Get, 100, storage.ErrUnavailable))
			return storage.ErrUnavailable
		}
		return nil
	})
	if _, err := f.Process(t.Context(), text("a"), first("t1"), ignore); err == nil {
		t.Fatal("no error")
	}
	f.keys(t, "results/a/result.json", "results/a/t1-0.png", "results/a/t1-1.png")
	f.bucket.Before(nil)
	f.bucket.After(nil)
	if outcome, err := f.Process(t.Context(), text("a"), job.Attempt{ID: "t2", Number: 2}, ignore); err != nil || outcome.State != job.Done || f.engine.calls != 1 {
		t.Errorf("got %+v, %v after %d inferences", outcome, err, f.engine.calls)
	}
}

// A picture that is made waits for the storage rather than be made again.
func TestFinishedPictureWaits(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	p := processor.New(processor.Options{Bucket: f.bucket, Engine: f.engine, Patience: time.Minute, Log: slog.New(slog.DiscardHandler)})
	f.bucket.Before(func(_ context.Context, c storagetest.Call) error {
		if c.Op == storagetest.Put && c.Number <= 2 || c.Op == storagetest.PutIfAbsent && c.Number == 1 {
			return storage.ErrUnavailable
		}
		return nil
	})
	outcome, err := p.Process(t.Context(), text("a"), first("t1"), ignore)
	if err != nil || outcome.State != job.Done || f.engine.calls != 1 {
		t.Errorf("got %+v, %v after %d inferences", outcome, err, f.engine.calls)
	}
}

// A storage that hangs is the storage's trouble, also for a job that was
// cancelled.
func TestCancelWhileTheStorageHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, processor.Recorder{})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(job.ErrCancelled)
		f.bucket.Before(func(ctx context.Context, c storagetest.Call) error {
			if c.Op == storagetest.PutIfAbsent {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		if _, err := f.Process(ctx, text("a"), first("t1"), ignore); err == nil || job.AsError(err).Code != job.StorageUnavailable {
			t.Errorf("got %v", err)
		}
	})
}

// A record that nobody can read ends the job all the same, and its photo goes.
func TestUnreadableRecord(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	f.put(t, storage.RecordKey("a"), []byte("{"))
	outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
	if err != nil || outcome.State != job.Failed || outcome.Code != job.Internal || f.engine.calls != 0 {
		t.Errorf("got %+v, %v", outcome, err)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json")
}

// What was not there was not deleted.
func TestMissingInputIsNotClaimedAsDeleted(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := text("a")
	j.Kind, j.Input = job.ImageToImage, new("inputs/nothing")
	if _, err := f.Process(t.Context(), j, first("t1"), ignore); err != nil {
		t.Fatal(err)
	}
	data, err := f.memory.Get(t.Context(), storage.DeletionsKey("a"), 1<<10)
	if err != nil || !strings.Contains(string(data), `"deleted":[]`) {
		t.Errorf("deletions are %s, %v", data, err)
	}
}

func TestTwoAttemptsAtOnce(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	var both sync.WaitGroup
	both.Add(2)
	f.engine.generate = func(context.Context) error { both.Done(); both.Wait(); return nil }
	outcomes := make(chan job.Outcome, 2)
	for i := range 2 {
		go func() {
			outcome, err := f.Process(t.Context(), text("a"), job.Attempt{ID: fmt.Sprintf("t%d", i), Number: i + 1}, ignore)
			if err != nil {
				t.Error(err)
			}
			outcomes <- outcome
		}()
	}
	if a, b := <-outcomes, <-outcomes; a.RecordKey != b.RecordKey || a.State != job.Done || b.State != job.Done {
		t.Errorf("outcomes are %+v and %+v", a, b)
	}
	winner := f.record(t, "a").Attempt.ID
	f.keys(t, "results/a/deleted.json", "results/a/result.json", "results/a/"+winner+"-0.png", "results/a/"+winner+"-1.png")
}

func TestEndedContexts(t *testing.T) {
	for _, when := range []string{"before", "in the engine"} {
		for cause, state := range map[error]job.State{job.ErrCancelled: job.Cancelled, job.ErrShutdown: "", job.ErrTimeout: ""} {
			t.Run(when+": "+cause.Error(), func(t *testing.T) {
				f := newFixture(t, processor.Recorder{})
				j := f.photo(t, "a")
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if when == "before" {
					cancel(cause)
				}
				f.engine.generate = func(ctx context.Context) error { cancel(cause); return context.Cause(ctx) }
				outcome, err := f.Process(ctx, j, first("t1"), ignore)
				if outcome.State != state {
					t.Errorf("state is %q", outcome.State)
				}
				if state == "" {
					if !errors.Is(err, cause) {
						t.Errorf("error is %v", err)
					}
					f.keys(t, *j.Input)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				f.keys(t, "results/a/deleted.json", "results/a/result.json")
				if r := f.record(t, "a"); r.Parameters != nil || r.Images != nil || r.State != job.Cancelled {
					t.Errorf("record is %+v", r)
				}
			})
		}
	}
}

// A job that is cancelled while its images are stored leaves none of them.
func TestCancelledWhileStoring(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	ctx, cancel := context.WithCancelCause(t.Context())
	f.bucket.After(func(_ context.Context, c storagetest.Call) error {
		if c.Op == storagetest.Put && c.Number == 1 {
			cancel(job.ErrCancelled)
		}
		return nil
	})
	outcome, err := f.Process(ctx, text("a"), first("t1"), ignore)
	if err != nil || outcome.State != job.Cancelled {
		t.Fatalf("got %+v, %v", outcome, err)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json")
}

func TestRefuse(t *testing.T) {
	f := newFixture(t, processor.Recorder{})
	j := f.photo(t, "a")
	outcome, err := f.Refuse(t.Context(), j, first("t1"), job.Wrap(job.InvalidJob, errors.New("private cause"), "promt: unknown field"))
	outcome.Record = nil
	if err != nil || outcome != (job.Outcome{State: job.Failed, Code: job.InvalidJob, RecordKey: "results/a/result.json"}) {
		t.Fatalf("got %+v, %v", outcome, err)
	}
	f.keys(t, "results/a/deleted.json", "results/a/result.json")
	data, err := f.memory.Get(t.Context(), storage.RecordKey("a"), storage.MaxRecord)
	if err != nil || strings.Contains(string(data), "private") || !strings.Contains(string(data), "promt") {
		t.Errorf("record is %s, %v", data, err)
	}
	// A done job cannot be refused any more.
	g := newFixture(t, processor.Recorder{})
	if _, err := g.Process(t.Context(), text("b"), first("t1"), ignore); err != nil {
		t.Fatal(err)
	}
	if outcome, err := g.Refuse(t.Context(), text("b"), first("t2"), job.Errorf(job.Internal, "late")); err != nil || outcome.State != job.Done {
		t.Errorf("got %+v, %v", outcome, err)
	}
}
