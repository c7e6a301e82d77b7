package janitor_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

const day = 24 * time.Hour

// age fills a bucket with what retention is about: subject a, and subject b who
// is on hold.
func age(t *testing.T, b storage.Bucket) {
	t.Helper()
	for _, who := range []string{"a", "b"} {
		entry := func(id string, inputs string) {
			put(t, b, storage.SubjectKey(who, id), fmt.Sprintf(`{"version":1,"id":%q,"inputs":[%s]}`, id, inputs))
		}
		id := who + "-done"
		put(t, b, "results/"+id+"/t-0.png", "x")
		put(t, b, "results/"+id+"/result.json", record(t, id, job.Done, "results/"+id+"/t-0.png"))
		put(t, b, "results/"+id+"/deleted.json", "{}")
		entry(id, "")
		for _, state := range []job.State{job.Failed, job.Cancelled, job.Erased} {
			id := who + "-" + string(state)
			put(t, b, "results/"+id+"/result.json", record(t, id, state))
			if state != job.Erased {
				put(t, b, "results/"+id+"/deleted.json", "{}")
				entry(id, "")
			}
		}
		put(t, b, "inputs/album of "+who+"/1.jpg", "x")
		entry(who+"-waits", `"inputs/album of `+who+`/1.jpg"`)
		put(t, b, "inputs/"+who+"-waits/mask", "x")
	}
	put(t, b, storage.HoldKey("b"), "{}")
	put(t, b, "results/strange/t-0.png", "x")
	put(t, b, "results/strange/result.json", "no record")
	put(t, b, "results/strange/deleted.json", "{}")
}

func TestRetention(t *testing.T) {
	inputs := []string{"inputs/a-waits/mask", "inputs/album of a/1.jpg"}
	results := []string{"results/a-done/deleted.json", "results/a-done/result.json", "results/a-done/t-0.png"}
	failed := []string{"results/a-cancelled/deleted.json", "results/a-cancelled/result.json", "results/a-failed/deleted.json", "results/a-failed/result.json"}
	for name, tt := range map[string]struct {
		keep janitor.Retention
		age  time.Duration
		gone []string
	}{
		"for ever": {janitor.Retention{}, 1000 * day, nil},
		"young":    {janitor.Retention{Inputs: 2 * day, Results: 2 * day, Failed: 2 * day}, day, nil},
		"inputs":   {janitor.Retention{Inputs: day}, 2 * day, inputs},
		"results":  {janitor.Retention{Results: day}, 2 * day, results},
		"failed":   {janitor.Retention{Failed: day}, 2 * day, failed},
		"old inputs": {
			janitor.Retention{Inputs: day}, 30 * day, append([]string{"subjects/a/a-waits"}, inputs...),
		},
		"all": {
			janitor.Retention{Inputs: day, Results: day, Failed: day}, 30 * day,
			slices.Concat(inputs, results, failed, []string{"subjects/a/a-waits", "subjects/a/a-done", "subjects/a/a-failed", "subjects/a/a-cancelled"}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := storagetest.Memory()
				age(t, b)
				time.Sleep(tt.age)
				before := b.Keys()
				j := janitor.New(janitor.Options{Bucket: b, Retention: tt.keep, Log: slog.New(slog.DiscardHandler)})
				dry := 0
				if err := j.Sweep(t.Context(), true, func(janitor.Finding) { dry++ }); err != nil || !slices.Equal(before, b.Keys()) {
					t.Errorf("a dry sweep: %v", err)
				}
				found := 0
				for range 2 { // an entry of the index goes when all else has
					err := j.Sweep(t.Context(), false, func(f janitor.Finding) {
						found++
						if strings.HasPrefix(f.Key, "inputs/") && f.Key != "inputs/…" {
							t.Errorf("a finding tells %s", f.Key)
						}
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if found != len(tt.gone) || dry > found {
					t.Errorf("found %d, dry %d", found, dry)
				}
				left := slices.DeleteFunc(before, func(key string) bool { return slices.Contains(tt.gone, key) })
				if diff := cmp.Diff(left, b.Keys()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// However often a sweep is cut short, in the end nothing is left of what is past
// its retention; nor does one that goes on take what is not.
func TestRetentionCutShort(t *testing.T) {
	for cut := range 8 {
		synctest.Test(t, func(t *testing.T) {
			memory := storagetest.Memory()
			for id, state := range map[string]job.State{"done": job.Done, "failed": job.Failed} {
				var images []string
				if state == job.Done {
					images = []string{"results/done/a-0.png", "results/done/a-1.png"}
				}
				for _, key := range images {
					put(t, memory, key, "x")
				}
				put(t, memory, storage.RecordKey(id), record(t, id, state, images...))
				put(t, memory, storage.DeletionsKey(id), "{}")
				put(t, memory, "subjects/s/"+id, `{"version":1,"id":"`+id+`"}`)
			}
			put(t, memory, "results/erased/result.json", record(t, "erased", job.Erased))
			time.Sleep(20 * day)
			put(t, memory, "results/young/a-0.png", "x")
			put(t, memory, "results/young/result.json", record(t, "young", job.Done, "results/young/a-0.png"))
			b := storagetest.Faulty(memory)
			b.Before(func(_ context.Context, c storagetest.Call) error {
				if c.Op == storagetest.Delete && c.Number > cut {
					return storage.ErrUnavailable
				}
				return nil
			})
			keep := janitor.Retention{Results: 10 * day, Failed: 10 * day}
			_ = janitor.New(janitor.Options{Bucket: b, Retention: keep, Log: slog.New(slog.DiscardHandler)}).Sweep(t.Context(), false, func(janitor.Finding) {})
			b.Before(nil)
			j := janitor.New(janitor.Options{Bucket: b, Retention: keep, Log: slog.New(slog.DiscardHandler)})
			for range 3 {
				if err := j.Sweep(t.Context(), false, func(janitor.Finding) {}); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff([]string{"results/erased/result.json", "results/young/a-0.png", "results/young/result.json"}, memory.Keys()); diff != "" {
				t.Errorf("cut after %d deletions: %s", cut, diff)
			}
		})
	}
}

// Records of failed jobs that are to stay longer than results are not read at
// every sweep.
func TestRecordsOfFailedJobsAreReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Faulty(storagetest.Memory())
		put(t, b, storage.RecordKey("failed"), record(t, "failed", job.Failed))
		put(t, b, storage.DeletionsKey("failed"), "{}")
		time.Sleep(2 * day)
		j := janitor.New(janitor.Options{Bucket: b, Retention: janitor.Retention{Results: day, Failed: 30 * day}, Log: slog.New(slog.DiscardHandler)})
		for range 5 {
			if err := j.Sweep(t.Context(), false, func(janitor.Finding) {}); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.Calls(storagetest.Get); n != 1 {
			t.Errorf("%d records were read", n)
		}
	})
}

// When the hold has ended, retention makes up for it.
func TestRetentionAfterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := storagetest.Memory()
		age(t, b)
		time.Sleep(30 * day)
		if err := b.Delete(t.Context(), storage.HoldKey("b")); err != nil {
			t.Fatal(err)
		}
		j := janitor.New(janitor.Options{Bucket: b, Retention: janitor.Retention{Inputs: day, Results: day, Failed: day}, Log: slog.New(slog.DiscardHandler)})
		for range 2 {
			if err := j.Sweep(t.Context(), false, func(janitor.Finding) {}); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"results/a-erased/result.json", "results/b-erased/result.json", "results/strange/deleted.json", "results/strange/result.json", "results/strange/t-0.png"}
		if diff := cmp.Diff(want, b.Keys()); diff != "" {
			t.Error(diff)
		}
	})
}

// A job whose record lands while its entry goes keeps its entry.
func TestEntryOfALateJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.Memory()
		b := storagetest.Faulty(memory)
		put(t, b, "subjects/a/late", `{"version":1,"id":"late","inputs":["inputs/gone"]}`)
		time.Sleep(30 * day)
		b.Before(func(ctx context.Context, c storagetest.Call) error {
			if c.Op == storagetest.Delete {
				return memory.Put(ctx, storage.RecordKey("late"), []byte(record(t, "late", job.Done)), storage.PutOptions{})
			}
			return nil
		})
		j := janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)})
		if err := j.Sweep(t.Context(), false, func(janitor.Finding) {}); err != nil {
			t.Fatal(err)
		}
		data, err := memory.Get(t.Context(), "subjects/a/late", 1000)
		if err != nil || !strings.Contains(string(data), "inputs/gone") {
			t.Errorf("the entry is %s, %v", data, err)
		}
	})
}

// Each deletion is told, whatever its kind; what a dry sweep finds, or what
// could not be deleted, is none.
func TestDeletionsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := storagetest.Memory()
		furnish(t, memory)
		age(t, memory)
		b := storagetest.Faulty(memory)
		uploads := &uploading{MemoryBucket: memory, uploads: []storage.Upload{{ID: "old", Begun: time.Now()}}}
		time.Sleep(30 * day)
		told := map[janitor.Kind]int{}
		sweep := func(b storage.Bucket, dry bool) (found int) {
			j := janitor.New(janitor.Options{
				Bucket: b, Retention: janitor.Retention{Inputs: day, Results: day, Failed: day}, Log: slog.New(slog.DiscardHandler),
				Deleted: func(k janitor.Kind) { told[k]++ },
			})
			_ = j.Sweep(t.Context(), dry, func(janitor.Finding) { found++ })
			return found
		}
		if sweep(uploads, true) == 0 || len(told) > 0 {
			t.Errorf("a dry sweep tells %v", told)
		}
		b.Before(storagetest.Fail(storagetest.Delete, 1, storage.ErrUnavailable))
		found := sweep(b, false)
		found += sweep(uploads, false)
		found += sweep(uploads, false) // an entry of the index goes when all else has
		for _, kind := range janitor.Kinds() {
			if told[kind] == 0 {
				t.Errorf("nothing is told of a deleted %s", kind)
			}
			found -= told[kind]
		}
		if len(told) != len(janitor.Kinds()) || found != 0 {
			t.Errorf("told are %v, %d other than found", told, found)
		}
	})
}

// What is kept for how long can change between two sweeps.
func TestAdjust(t *testing.T) {
	b := storagetest.Memory()
	if err := b.Put(t.Context(), "inputs/a/photo", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	j := janitor.New(janitor.Options{Bucket: b, Log: slog.New(slog.DiscardHandler)})
	for _, want := range []int{0, 1} {
		n := 0
		if err := j.Sweep(t.Context(), false, func(janitor.Finding) { n++ }); err != nil || n != want {
			t.Errorf("%d findings, %v; want %d", n, err, want)
		}
		j.Adjust(janitor.Retention{Inputs: time.Nanosecond})
	}
}
