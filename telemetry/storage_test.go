package telemetry

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// A bucket that is measured is a bucket all the same.
func TestBucketAccepted(t *testing.T) {
	m := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil })
	storagetest.Accept(t, func(*testing.T) storage.Bucket { return m.Bucket(storagetest.Memory(), nil) })
}

func TestStorageMetrics(t *testing.T) {
	m := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil })
	faulty := storagetest.Faulty(storagetest.Memory())
	bucket := m.Bucket(faulty, nil)
	_, _ = bucket.Get(t.Context(), "inputs/a", 1) // an answer, no error
	for _, err := range []error{storage.ErrUnavailable, storage.ErrCorrupt, context.DeadlineExceeded, errors.New("inputs/secret")} {
		faulty.Before(func(context.Context, storagetest.Call) error { return err })
		_, _ = bucket.Get(t.Context(), "inputs/a", 1)
	}
	want := map[string]float64{"unavailable": 2, "corrupt": 1, "other": 1}
	for _, f := range gather(t, m) {
		if f.GetName() == "imgus_storage_seconds" && f.GetMetric()[0].GetHistogram().GetSampleCount() != 5 {
			t.Errorf("%d operations", f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
		if f.GetName() != "imgus_storage_errors_total" {
			continue
		}
		for _, metric := range f.GetMetric() {
			kind := metric.GetLabel()[0].GetValue()
			if metric.GetCounter().GetValue() != want[kind] {
				t.Errorf("%s: %v", kind, metric.GetCounter().GetValue())
			}
			delete(want, kind)
		}
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}

// uploads is a bucket with an upload that was never finished.
type uploads struct {
	storage.Bucket
	aborted int
}

func (u *uploads) Uploads(context.Context) iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		yield(storage.Upload{Key: "inputs/a", Begun: time.Now()}, nil)
	}
}

func (u *uploads) Abort(context.Context, storage.Upload) error { u.aborted++; return nil }

// What the janitor can do with a bucket it can do with one that is measured.
func TestUploads(t *testing.T) {
	m := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil })
	inner := &uploads{Bucket: storagetest.Memory()}
	uploader, ok := m.Bucket(inner, nil).(storage.Uploader)
	if !ok {
		t.Fatal("no uploader any more")
	}
	for upload, err := range uploader.Uploads(t.Context()) {
		if err != nil || uploader.Abort(t.Context(), upload) != nil {
			t.Error(err)
		}
	}
	if inner.aborted != 1 {
		t.Errorf("%d aborted", inner.aborted)
	}
}
