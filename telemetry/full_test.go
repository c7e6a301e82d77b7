package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// family is a metric as Prometheus sees it.
type family struct {
	kind   string
	labels []string
}

// full makes metrics of which every one has a value.
func full(t *testing.T) *Metrics {
	t.Helper()
	m := NewMetrics(Build{Version: "1.2.3", Commit: "abc"}, []string{"batch"}, func() []string { return []string{"demo"} })
	health := NewHealth(slog.New(slog.DiscardHandler))
	health.Check("engine", func() error { return errors.New("no device") })
	m.Watch(health)
	m.Engine(EngineSource{
		Status: func(context.Context) (inference.Status, error) {
			return inference.Status{
				Models: []inference.LoadedModel{{Name: "demo"}}, BadModels: []inference.BadModel{{Name: "demo"}},
				Devices: []inference.Device{{Device: "cuda:0", Utilisation: new(40), Temperature: new(60)}},
			}, nil
		},
		Health: func() []remote.DeviceStatus { return []remote.DeviceStatus{{Device: "cuda:0", State: remote.Ready}} },
	})
	m.Queues(func(context.Context) ([]queue.Depth, error) { return []queue.Depth{{Queue: "batch", Pending: 3}}, nil })
	jobs := Jobs{Metrics: m}
	jobs.Ended(t.Context(), ended("demo", job.TextToImage, job.Done, ""))
	jobs.Ended(t.Context(), queue.End{Queue: "batch", Result: queue.Retried, Code: job.EngineFailed, Job: &job.Job{}})
	jobs.Ended(t.Context(), queue.End{Queue: "batch", Result: queue.HandedBack, Job: &job.Job{}})
	jobs.Ended(t.Context(), queue.End{Queue: "batch", Result: queue.Parked, Code: queue.WaitsForKey, Job: &job.Job{}})
	jobs.Dropped("batch")
	jobs.Recovered("batch")
	jobs.Command("get", time.Millisecond, errors.New("gone"))
	bucket := m.Bucket(storagetest.Memory(), nil)
	_, _ = bucket.Get(t.Context(), "inputs/a", 1)
	m.storageErrors.WithLabelValues("get", "unavailable")
	m.Swept(janitor.Probe)
	return m
}

// ended is the end of an attempt that made the job's outcome.
func ended(model string, kind job.Kind, state job.State, code job.Code) queue.End {
	attempt := job.Attempt{ID: "t1", Number: 1}
	record := &job.Record{
		State: state, Kind: kind, Attempt: &attempt, Model: &job.ModelInfo{Name: model}, Images: make([]job.Image, 2),
		Engine: &job.EngineInfo{Device: "cpu"}, Parameters: &job.Parameters{Steps: 20, Strength: new(0.5)},
		Timings: job.Timings{
			job.StageQueued: 500, job.StageFetch: 10, job.StageLoad: 100, job.StageText: 20, job.StageDenoise: 1000, job.StageVAE: 50,
			job.StageEncode: 5, job.StageStore: 30, job.StageTotal: 1315, // 100 of them for a device
		},
	}
	if code != "" {
		record.Error = &job.Error{Code: code}
	}
	return queue.End{
		Queue: "batch", Job: &job.Job{Kind: kind, Model: model}, Attempt: attempt, Began: time.Now().Add(-2 * time.Second), Result: queue.Finished,
		Outcome: job.Outcome{State: state, Code: code, Record: record}, Code: code,
	}
}

func gather(t *testing.T, m *Metrics) []*dto.MetricFamily {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// described lists every metric of ours by name, whether it has a value or not.
func described(m *Metrics) []string {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.registry.Describe(descs)
	}()
	var names []string
	for d := range descs {
		_, rest, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ := strings.Cut(rest, `"`)
		if strings.HasPrefix(name, "imgus_") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// families are the metrics that have a value, by name.
func families(t *testing.T, m *Metrics) map[string]family {
	t.Helper()
	all := map[string]family{}
	for _, f := range gather(t, m) {
		one := family{kind: strings.ToLower(f.GetType().String())}
		for _, l := range f.GetMetric()[0].GetLabel() {
			one.labels = append(one.labels, l.GetName())
		}
		slices.Sort(one.labels)
		all[f.GetName()] = one
	}
	return all
}

// The tests of docs and dashboards rest on full: it leaves out no metric.
func TestFull(t *testing.T) {
	m := full(t)
	has := families(t, m)
	for _, name := range described(m) {
		if _, ok := has[name]; !ok {
			t.Errorf("%s has no value", name)
		}
	}
	for name := range maps.Keys(has) {
		if !strings.HasPrefix(name, "imgus_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is not ours by name", name)
		}
	}
}

// Whatever producers and devices say, labels keep to what is known beforehand.
func TestHostileLabels(t *testing.T) {
	m := full(t)
	known := labelValues(t, m)
	jobs := Jobs{Metrics: m}
	const private = "a-private-prompt"
	for i := range 50 {
		hostile := fmt.Sprintf("%s-%d\n\"{}", private, i)
		e := ended(hostile, job.Kind(hostile), job.State(hostile), job.Code(hostile))
		jobs.Ended(t.Context(), e)
		e.Outcome.Record = nil
		jobs.Ended(t.Context(), e)
		jobs.Ended(t.Context(), queue.End{Queue: "batch", Result: queue.Retried, Code: job.Code(hostile), Job: &job.Job{}})
		m.Swept(janitor.Kind(hostile))
		jobs.Command(hostile, time.Second, errors.New(hostile))
		faulty := storagetest.Memory()
		bucket := m.Bucket(faulty, nil)
		_, _ = bucket.Get(t.Context(), hostile, 10)
		_ = bucket.Put(t.Context(), storage.InputPrefix+hostile, nil, storage.PutOptions{})
	}
	for label, values := range labelValues(t, m) {
		for value := range values {
			if strings.Contains(value, private) {
				t.Errorf("label %s has the value %q", label, value)
			}
		}
		if grown := len(values) - len(known[label]); grown > 5 { // other, and what full had no case of
			t.Errorf("label %s has %d values more", label, grown)
		}
	}
}

func labelValues(t *testing.T, m *Metrics) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	for _, f := range gather(t, m) {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				name := f.GetName() + "/" + l.GetName()
				if all[name] == nil {
					all[name] = map[string]bool{}
				}
				all[name][l.GetValue()] = true
			}
		}
	}
	return all
}
