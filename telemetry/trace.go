package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// TraceOptions say where traces go.
type TraceOptions struct {
	// Endpoint is an OTLP receiver over HTTP, such as http://127.0.0.1:4318; the
	// path is /v1/traces unless it has one.
	Endpoint string
	// Sample is the share of jobs that are traced whose producer has not decided
	// it already, from 0 to 1.
	Sample  float64
	Version string
	// Log is told at most once a minute that traces cannot be sent. May be nil.
	Log *slog.Logger
}

// Tracer makes a span of each attempt and of its stages, below the span of the
// job's producer. A nil Tracer makes none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	share    *share
}

// share is a sampler whose share can change.
type share struct {
	atomic.Pointer[sdktrace.Sampler]
}

func (s *share) set(part float64) { s.Store(new(sdktrace.TraceIDRatioBased(part))) }

// ShouldSample implements sdktrace.Sampler.
func (s *share) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return (*s.Load()).ShouldSample(p)
}

// Description implements sdktrace.Sampler.
func (s *share) Description() string { return (*s.Load()).Description() }

// NewTracer sends spans in the background; a receiver that is away loses spans
// and holds up nothing. Shutdown it.
func NewTracer(ctx context.Context, o TraceOptions) (*Tracer, error) {
	at, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, errors.New("open tracing: the endpoint is no URL")
	}
	if strings.Trim(at.Path, "/") == "" {
		at.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(at.String()))
	if err != nil {
		return nil, fmt.Errorf("open tracing: %w", err)
	}
	if o.Log != nil {
		// Its own handler writes to standard error. There is one for the process.
		otel.SetErrorHandler(&complaints{log: o.Log})
	}
	return newTracer(o, sdktrace.WithBatcher(exporter)), nil
}

func newTracer(o TraceOptions, out sdktrace.TracerProviderOption) *Tracer {
	s := &share{}
	s.set(o.Sample)
	provider := sdktrace.NewTracerProvider(out,
		sdktrace.WithSampler(sdktrace.ParentBased(s)),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "imgus-worker"), attribute.String("service.version", o.Version))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("imgus-worker"), share: s}
}

// Sample changes the share of jobs that are traced.
func (t *Tracer) Sample(share float64) {
	if t != nil {
		t.share.set(share)
	}
}

// Shutdown sends what is left.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("close tracing: %w", err)
	}
	return nil
}

// complaints are the errors of sending, one a minute.
type complaints struct {
	log  *slog.Logger
	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	quiet := !c.last.IsZero() && time.Since(c.last) < time.Minute
	if !quiet {
		c.last = time.Now()
	}
	c.mu.Unlock()
	if !quiet {
		c.log.Warn("traces cannot be sent", "error", err)
	}
}

var propagator = propagation.TraceContext{}

// begin opens an attempt's span.
func (t *Tracer) begin(ctx context.Context, name, traceparent string) context.Context {
	if t == nil {
		return ctx
	}
	parent := propagator.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
	ctx, _ = t.tracer.Start(parent, "job", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attribute.String("queue", name))) //nolint:spancheck // end ends it
	return ctx
}

// end closes it, with a span for each stage that the record tells the time of.
func (t *Tracer) end(ctx context.Context, s queue.End) {
	if t == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("result", string(s.Result)), attribute.Int("attempt", s.Attempt.Number))
	code := s.Code
	if s.Result == queue.Finished {
		code = s.Outcome.Code
		span.SetAttributes(attribute.String("state", string(s.Outcome.State)))
	}
	if s.Result != queue.Finished {
		span.SetAttributes(attribute.String("stage", string(s.Stage))) // where it was when it ended
	}
	if code != "" {
		span.SetStatus(codes.Error, string(code))
	}
	r := s.Outcome.Record
	if r == nil || !s.Mine() {
		return
	}
	if r.Model != nil && job.ValidModel(r.Model.Name) {
		span.SetAttributes(attribute.String("model", r.Model.Name))
	}
	if r.Engine != nil {
		span.SetAttributes(attribute.String("device", r.Engine.Device))
	}
	// What no stage accounts for is the wait for a device, between the fetch and
	// the engine's stages.
	waited := r.Timings[job.StageTotal]
	for stage, ms := range r.Timings {
		if stage != job.StageTotal && stage != job.StageQueued {
			waited -= ms
		}
	}
	at := s.Began
	for _, stage := range job.Stages() {
		ms, ok := r.Timings[stage]
		if !ok || stage == job.StageTotal {
			continue
		}
		took := time.Duration(ms) * time.Millisecond
		from := at
		if stage == job.StageQueued {
			from = at.Add(-took)
		} else {
			at = at.Add(took)
		}
		if stage == job.StageFetch {
			at = at.Add(time.Duration(max(waited, 0)) * time.Millisecond)
		}
		_, part := t.tracer.Start(ctx, string(stage), trace.WithTimestamp(from))
		part.End(trace.WithTimestamp(from.Add(took)))
	}
}

// span opens a span below the one of ctx, if there is one.
func (t *Tracer) span(ctx context.Context, name string) (_ context.Context, end func(problem string)) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, func(string) {}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient)) //nolint:spancheck // whoever opens it ends it
	return ctx, func(problem string) {                                               //nolint:spancheck // as above
		if problem != "" {
			span.SetStatus(codes.Error, problem)
		}
		span.End()
	}
}

// Transport carries the trace context on with each request.
func (t *Tracer) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return carrier{next}
}

type carrier struct{ next http.RoundTripper }

func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		ctx := r.Context()
		r = r.Clone(ctx)
		propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	}
	return c.next.RoundTrip(r)
}

// TraceParent is the trace context of ctx, "" for none.
func TraceParent(ctx context.Context) string {
	carried := propagation.MapCarrier{}
	propagator.Inject(ctx, carried)
	return carried["traceparent"]
}
