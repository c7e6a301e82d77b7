// Package telemetry is what operators see of a worker: metrics for Prometheus,
// traces for OpenTelemetry, health, and logs. It alone imports their libraries;
// the other rooms tell its observers. Nothing here carries a prompt, a key or
// an id of a job, but for the log.
package telemetry

import (
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/imgus/worker/job"
)

// other stands for label values that are not known beforehand, so that no label
// grows without bound.
const other = "other"

// Build names the program.
type Build struct {
	Version, Commit string
}

// Metrics holds all that is counted and measured.
type Metrics struct {
	registry *prometheus.Registry
	// models are the names that the label model may have.
	models func() []string

	jobs       *prometheus.CounterVec
	retries    *prometheus.CounterVec
	handedBack *prometheus.CounterVec
	parked     *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	recovered  *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	waited     *prometheus.HistogramVec
	stages     *prometheus.HistogramVec
	steps      *prometheus.CounterVec
	stepTime   *prometheus.HistogramVec
	images     *prometheus.CounterVec

	redisTime     *prometheus.HistogramVec
	redisErrors   *prometheus.CounterVec
	storageTime   *prometheus.HistogramVec
	storageErrors *prometheus.CounterVec
	away          *prometheus.GaugeVec
	outages       *prometheus.CounterVec
	swept         *prometheus.CounterVec
}

// Buckets of durations in seconds: of pictures, and of single requests.
var (
	long  = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 50, 100, 250, 600}
	short = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// NewMetrics makes the metrics of a worker that serves these queues. models
// lists the catalogue's names; it is asked when a job ends.
func NewMetrics(b Build, queues []string, models func() []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), models: models}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(g)
		return g
	}
	m.jobs = counter("imgus_jobs_total", "Jobs that ended here.", "queue", "kind", "model", "state", "code")
	m.retries = counter("imgus_retries_total", "Attempts that ended without an outcome and are tried again.", "queue", "code")
	m.handedBack = counter("imgus_handed_back_total", "Jobs handed back because the worker stopped.", "queue")
	m.parked = counter("imgus_parked_total", "Attempts that found a job waiting for a person.", "queue", "reason")
	m.dropped = counter("imgus_dropped_total", "Entries of a queue that were no job and were deleted.", "queue")
	m.recovered = counter("imgus_recovered_total", "Jobs taken back from workers that are gone.", "queue")
	m.duration = histogram("imgus_job_seconds", "Time from taking a job to its outcome.", long, "kind", "model", "state")
	m.waited = histogram("imgus_job_wait_seconds", "Time from a job's creation until it was taken.", long, "queue")
	m.stages = histogram("imgus_stage_seconds", "Time of each stage of the jobs done here.", long, "stage", "model")
	m.steps = counter("imgus_steps_total", "Denoising steps done, of all images of a job at once.", "model")
	m.stepTime = histogram("imgus_step_seconds", "Mean time of a denoising step of a job.", short, "model")
	m.images = counter("imgus_images_total", "Images published.", "model")
	m.redisTime = histogram("imgus_redis_seconds", "Time of commands to Redis.", short, "command")
	m.redisErrors = counter("imgus_redis_errors_total", "Commands that Redis did not answer.", "command")
	m.storageTime = histogram("imgus_storage_seconds", "Time of operations on the storage.", short, "operation")
	m.storageErrors = counter("imgus_storage_errors_total", "Operations that the storage did not do.", "operation", "error")
	m.away = gauge("imgus_away", "1 while a service is away.", "service")
	m.outages = counter("imgus_outages_total", "How often a service went away.", "service")
	m.swept = counter("imgus_swept_total", "Objects and uploads that this worker's sweep of the storage deleted.", "kind")
	for _, kind := range sweptKinds {
		m.swept.WithLabelValues(kind)
	}
	for _, service := range []string{"redis", "storage"} {
		m.away.WithLabelValues(service).Set(0)
		m.outages.WithLabelValues(service)
	}
	m.startAtZero(queues)
	gauge("imgus_build_info", "Always 1; the labels name the program.", "version", "commit", "go").
		WithLabelValues(b.Version, b.Commit, runtime.Version()).Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// startAtZero makes the series of which the first event matters: Prometheus sees
// no increase in one that begins with it.
func (m *Metrics) startAtZero(queues []string) {
	for _, queue := range queues {
		for _, counter := range []*prometheus.CounterVec{m.dropped, m.recovered, m.handedBack} {
			counter.WithLabelValues(queue)
		}
		for _, reason := range parkings {
			m.parked.WithLabelValues(queue, string(reason))
		}
		for _, code := range job.Codes() {
			if !code.Final() { // no job with a final one is tried again
				m.retries.WithLabelValues(queue, string(code))
			}
		}
		for _, kind := range job.Kinds() {
			m.jobs.WithLabelValues(queue, string(kind), other, string(job.Failed), string(job.UnknownModel))
		}
	}
}

// Outage is told when a service, redis or storage, went away or came back.
func (m *Metrics) Outage(service string, away bool) {
	if !away {
		m.away.WithLabelValues(service).Set(0)
		return
	}
	m.away.WithLabelValues(service).Set(1)
	m.outages.WithLabelValues(service).Inc()
}

// model is the label of a model: one of the catalogue's, or other.
func (m *Metrics) model(name string) string {
	if name == "" {
		return ""
	}
	return known(name, m.models())
}

func known[T ~string](value T, all []T) string {
	if slices.Contains(all, value) {
		return string(value)
	}
	return other
}

// redisCommands are the commands that the worker sends.
var redisCommands = strings.Fields(`auth cluster del dial eval evalsha exists expire expireat get hdel hello hget hgetall hincrby hmget hset incr info llen lpush
	lrange lrem ping pipeline publish rpoplpush rpush sadd script select set setex sismember smembers srem subscribe time unsubscribe zadd zcard zrange zrangebyscore zrem
	zremrangebyscore zscore`)
