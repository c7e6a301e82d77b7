package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

const (
	producersTrace = "0af7651916cd43dd8448eb211c80319c"
	producersSpan  = "b7ad6b7169203331"
	private        = "a-private-prompt"
)

func headers(flags string) map[string]string {
	return map[string]string{"traceparent": "00-" + producersTrace + "-" + producersSpan + "-" + flags}
}

func recorded(t *testing.T, sample float64) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	out := tracetest.NewInMemoryExporter()
	tracer := newTracer(TraceOptions{Sample: sample, Version: "1.2.3"}, sdktrace.WithSyncer(out))
	t.Cleanup(func() { _ = tracer.Shutdown(context.Background()) })
	return tracer, out
}

func tracing(tracer *Tracer) Jobs {
	return Jobs{Metrics: NewMetrics(Build{}, []string{"batch"}, func() []string { return []string{"demo"} }), Tracer: tracer}
}

// An attempt has a span below its producer's, and below it one for each stage,
// each after the other, and one for each operation on the storage.
func TestTrace(t *testing.T) {
	tracer, out := recorded(t, 0)
	jobs := tracing(tracer)
	ctx := jobs.Began(t.Context(), "batch", headers("01"))
	bucket := jobs.Bucket(storagetest.Memory(), tracer)
	if err := bucket.Put(ctx, "inputs/"+private, []byte("photo"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	e := ended("demo", job.TextToImage, job.Done, "")
	e.Job.Prompt, e.Job.Input = new(private), new("inputs/"+private)
	e.Outcome.Record.Parameters.Prompt = new(private)
	jobs.Ended(ctx, e)

	spans := map[string]tracetest.SpanStub{}
	for _, s := range out.GetSpans() {
		spans[s.Name] = s
		if s.SpanContext.TraceID().String() != producersTrace {
			t.Errorf("%s is of the trace %s", s.Name, s.SpanContext.TraceID())
		}
		if strings.Contains(fmt.Sprintf("%+v", s), private) {
			t.Errorf("%s tells of the job's content: %+v", s.Name, s)
		}
	}
	attempt := spans["job"]
	if attempt.Parent.SpanID().String() != producersSpan {
		t.Errorf("the attempt is below %s", attempt.Parent.SpanID())
	}
	var last time.Time
	for _, stage := range job.Stages() {
		if stage == job.StageTotal || stage == job.StageDecode { // the job has no photo
			continue
		}
		s, ok := spans[string(stage)]
		if !ok || s.Parent.SpanID() != attempt.SpanContext.SpanID() {
			t.Errorf("%s has no span below the attempt's", stage)
			continue
		}
		want := time.Duration(e.Outcome.Record.Timings[stage]) * time.Millisecond
		if s.EndTime.Sub(s.StartTime) != want || s.StartTime.Before(last) {
			t.Errorf("%s is from %s to %s", stage, s.StartTime, s.EndTime)
		}
		last = s.EndTime
	}
	if wait := spans["load"].StartTime.Sub(spans["fetch"].EndTime); wait != 100*time.Millisecond {
		t.Errorf("it waited %s for a device", wait)
	}
	if s, ok := spans["storage put"]; !ok || s.Parent.SpanID() != attempt.SpanContext.SpanID() {
		t.Error("the operation on the storage has no span below the attempt's")
	}
	if len(out.GetSpans()) != 10 {
		t.Errorf("%d spans", len(out.GetSpans()))
	}
}

// Whether a job is traced is its producer's decision, if that has made one.
func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		sample  float64
		headers map[string]string
		want    int
	}{
		{0, nil, 0}, {1, nil, 1}, {0, headers("01"), 1}, {1, headers("00"), 0}, {1, map[string]string{"traceparent": "nonsense"}, 1},
		{0, map[string]string{"traceparent": private}, 0},
	} {
		tracer, out := recorded(t, tt.sample)
		jobs := tracing(tracer)
		ctx := jobs.Began(t.Context(), "batch", tt.headers)
		jobs.Ended(ctx, queue.End{Queue: "batch", Result: queue.Retried, Code: job.EngineFailed, Job: &job.Job{}, Began: time.Now()})
		if n := len(out.GetSpans()); n != tt.want {
			t.Errorf("sample %v, headers %v: %d spans", tt.sample, tt.headers, n)
		}
	}
}

// The share that is traced can change.
func TestSampleChanges(t *testing.T) {
	tracer, out := recorded(t, 0)
	for i, share := range []float64{1, 0} {
		tracer.Sample(share)
		tracing(tracer).Ended(tracing(tracer).Began(t.Context(), "batch", nil), queue.End{Queue: "batch", Result: queue.Retried, Code: job.EngineFailed, Job: &job.Job{}, Began: time.Now()})
		if n := len(out.GetSpans()); n != 1 {
			t.Errorf("step %d: %d spans", i, n)
		}
	}
	var none *Tracer
	none.Sample(1)
}

// A failure is told by its code alone.
func TestFailedAttempt(t *testing.T) {
	tracer, out := recorded(t, 1)
	jobs := tracing(tracer)
	jobs.Ended(jobs.Began(t.Context(), "batch", nil), queue.End{
		Queue: "batch", Result: queue.Retried, Code: job.EngineFailed, Job: &job.Job{Prompt: new(private)}, Attempt: job.Attempt{Number: 2}, Began: time.Now(),
	})
	spans := out.GetSpans()
	if len(spans) != 1 || spans[0].Status.Description != "engine_failed" {
		t.Fatalf("spans are %+v", spans)
	}
}

// Requests to the storage carry the trace on, and only those of a job that has
// one.
func TestTransport(t *testing.T) {
	tracer, out := recorded(t, 1)
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("Traceparent"))
	}))
	defer server.Close()
	client := &http.Client{Transport: tracer.Transport(http.DefaultTransport)}
	ctx := tracing(tracer).Began(t.Context(), "batch", headers("01"))
	for _, ctx := range []context.Context{ctx, t.Context()} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if len(request.Header) > 0 {
			t.Error("the request itself was changed")
		}
	}
	if !strings.HasPrefix(got[0], "00-"+producersTrace+"-") || strings.Contains(got[0], producersSpan) || got[1] != "" {
		t.Errorf("the storage was told %q", got)
	}
	_ = out
}

// What is sent is OTLP over HTTP. A receiver that is away holds up nothing.
func TestReceiver(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k") // as OpenTelemetry's specification has it
	bodies := make(chan []byte, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/traces" || r.Method != http.MethodPost {
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
		if r.Header.Get("Api-Key") != "k" {
			t.Error("no key")
		}
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Error(err)
			}
		}
		data, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		bodies <- data
	}))
	defer server.Close()
	tracer, err := NewTracer(t.Context(), TraceOptions{Endpoint: server.URL, Sample: 1, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	jobs := tracing(tracer)
	jobs.Ended(jobs.Began(t.Context(), "batch", headers("01")), ended("demo", job.TextToImage, job.Done, ""))
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var sent collector.ExportTraceServiceRequest
	data := <-bodies
	if err := proto.Unmarshal(data, &sent); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, resource := range sent.GetResourceSpans() {
		if !bytes.Contains(data, []byte("imgus-worker")) || !bytes.Contains(data, []byte("1.2.3")) {
			t.Errorf("the resource is %v", resource.GetResource())
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				names[s.GetName()] = true
			}
		}
	}
	if !names["job"] || !names["denoise"] {
		t.Errorf("spans are %v", names)
	}
}

// A receiver that is away is told in the worker's log, once in a while, and
// nowhere else.
func TestReceiverAway(t *testing.T) {
	var text bytes.Buffer
	tracer, err := NewTracer(t.Context(), TraceOptions{Endpoint: "http://127.0.0.1:1", Sample: 1, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer tracer.Shutdown(t.Context())
	for range 3 {
		otel.Handle(errors.New("refused"))
	}
	if n := strings.Count(text.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("told %d times: %s", n, &text)
	}
}

// A worker without tracing has a tracer that does nothing.
func TestNoTracer(t *testing.T) {
	jobs := tracing(nil)
	ctx := jobs.Began(t.Context(), "batch", headers("01"))
	jobs.Ended(ctx, ended("demo", job.TextToImage, job.Done, ""))
	var none *Tracer
	if none.Transport(http.DefaultTransport) != http.DefaultTransport || none.Shutdown(t.Context()) != nil || TraceParent(ctx) != "" {
		t.Error("there is a trace")
	}
}
