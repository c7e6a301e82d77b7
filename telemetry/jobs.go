package telemetry

import (
	"context"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// Jobs is the queue's observer: it counts, and traces.
type Jobs struct {
	*Metrics
	Tracer *Tracer // may be nil
}

var _ queue.Observer = Jobs{}

// parkings are what a parked job waits for.
var parkings = []job.Code{queue.WaitsForRelease, queue.WaitsForKey}

// Began implements queue.Observer.
func (j Jobs) Began(ctx context.Context, name string, headers map[string]string) context.Context {
	return j.Tracer.begin(ctx, name, headers["traceparent"])
}

// Ended implements queue.Observer.
func (j Jobs) Ended(ctx context.Context, s queue.End) {
	j.Tracer.end(ctx, s)
	switch s.Result {
	case queue.Retried:
		j.retries.WithLabelValues(s.Queue, known(s.Code, job.Codes())).Inc()
		return
	case queue.HandedBack:
		j.handedBack.WithLabelValues(s.Queue).Inc()
		return
	case queue.Parked:
		j.parked.WithLabelValues(s.Queue, known(s.Code, parkings)).Inc()
		return
	case queue.Finished:
	}
	r := s.Outcome.Record
	if r == nil {
		r = &job.Record{State: s.Outcome.State}
	}
	kind, model, code := "", "", ""
	if r.Kind != "" {
		kind = known(r.Kind, job.Kinds())
	}
	if r.Model != nil {
		model = j.model(r.Model.Name)
	}
	if s.Outcome.Code != "" {
		code = known(s.Outcome.Code, job.Codes())
	}
	state := known(s.Outcome.State, []job.State{job.Done, job.Failed, job.Cancelled, job.Erased})
	j.jobs.WithLabelValues(s.Queue, kind, model, state, code).Inc()
	if !s.Mine() {
		return // its figures were counted where it was made
	}
	j.duration.WithLabelValues(kind, model, state).Observe(time.Since(s.Began).Seconds())
	for _, stage := range job.Stages() {
		ms, ok := r.Timings[stage]
		switch seconds := float64(ms) / 1000; {
		case !ok || stage == job.StageTotal:
		case stage == job.StageQueued:
			j.waited.WithLabelValues(s.Queue).Observe(seconds)
		default:
			j.stages.WithLabelValues(string(stage), model).Observe(seconds)
		}
	}
	j.images.WithLabelValues(model).Add(float64(len(r.Images)))
	if p := r.Parameters; p != nil && p.Steps > 0 {
		steps := p.Steps
		if p.Strength != nil {
			steps = job.KeptSteps(p.Steps, *p.Strength)
		}
		j.steps.WithLabelValues(model).Add(float64(steps))
		if steps > 0 {
			j.stepTime.WithLabelValues(model).Observe(float64(r.Timings[job.StageDenoise]) / 1000 / float64(steps))
		}
	}
}

// Dropped implements queue.Observer.
func (j Jobs) Dropped(name string) { j.dropped.WithLabelValues(name).Inc() }

// Recovered implements queue.Observer.
func (j Jobs) Recovered(name string) { j.recovered.WithLabelValues(name).Inc() }

// Outage implements queue.Observer.
func (j Jobs) Outage(away bool) { j.Metrics.Outage("redis", away) }

// Command implements queue.Observer.
func (j Jobs) Command(name string, took time.Duration, err error) {
	command := known(name, redisCommands)
	j.redisTime.WithLabelValues(command).Observe(took.Seconds())
	if err != nil {
		j.redisErrors.WithLabelValues(command).Inc()
	}
}
