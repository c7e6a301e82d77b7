package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/telemetry"
)

// observed is what operators see of a daemon.
type observed struct {
	metrics *telemetry.Metrics
	health  *telemetry.Health
	tracer  *telemetry.Tracer
	server  *telemetry.Server
	warm    atomic.Bool

	log     *slog.Logger
	stop    context.CancelFunc // of the probes
	probing sync.WaitGroup
	close   func() // may be called again
}

var (
	errWarming  = errors.New("models are being warmed up")
	errNoDevice = errors.New("no device can be used now; the log has why")
)

// observe starts the server of metrics and health, which answers before
// anything else is there.
func (a *app) observe(ctx context.Context, c configs.Config, log *slog.Logger) (*observed, error) {
	o := &observed{
		metrics: telemetry.NewMetrics(telemetry.Build{Version: version, Commit: commit}, slices.Sorted(maps.Keys(c.Queues)), modelNames(c.Models)),
		health:  telemetry.NewHealth(log, "warm_up", "engine", "storage", "redis", "queue", "clock"),
		log:     log,
	}
	o.health.Check("warm_up", func() error {
		if !o.warm.Load() {
			return errWarming
		}
		return nil
	})
	o.metrics.Watch(o.health)
	var err error
	if c.Tracing.Endpoint != "" {
		o.tracer, err = telemetry.NewTracer(ctx, telemetry.TraceOptions{Endpoint: c.Tracing.Endpoint, Sample: c.Tracing.Sample, Version: version, Log: log})
		if err != nil {
			return nil, err
		}
	}
	o.server, err = telemetry.Serve(ctx, telemetry.ServerOptions{Address: c.HTTP.Address, Pprof: c.HTTP.PprofAddress, Health: o.health, Metrics: o.metrics, Log: log})
	if err != nil {
		o.endTracing() //nolint:contextcheck // the end has time of its own
		return nil, &exitError{status: exitConfig, err: err}
	}
	if o.server.Addr != "" {
		log.Info("serving metrics and health", "address", o.server.Addr)
	}
	probes, stop := context.WithCancel(context.WithoutCancel(ctx))
	o.stop = stop
	o.probing.Go(func() { o.health.Run(probes) })
	o.close = sync.OnceFunc(o.end)
	return o, nil
}

// modelNames lists the catalogue, which may change while the worker runs.
func modelNames(c configs.Models) func() []string {
	return func() []string {
		catalogue, err := catalogue(c.Directory)
		if err != nil {
			return nil
		}
		return slices.Collect(maps.Keys(manifests(catalogue)))
	}
}

// storage measures a bucket and asks it once a second whether it is there,
// which writes nothing.
func (o *observed) storage(b storage.Bucket) *storage.Watched {
	watched := storage.Watch(o.metrics.Bucket(b, o.tracer), storage.WatchOptions{
		Log: o.log, Outage: func(away bool) { o.metrics.Outage("storage", away) },
	})
	o.health.Probe("storage", func(ctx context.Context) error {
		if err := watched.Away(); err != nil {
			return err // who watches it asks
		}
		if _, err := watched.Stat(ctx, storage.ProbeKey()); !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		return nil
	})
	return watched
}

// janitor sweeps a bucket, and its deletions are counted.
func (o *observed) janitor(b storage.Bucket, c configs.Retention) *janitor.Janitor {
	return janitor.New(janitor.Options{Bucket: b, Retention: retention(c), Deleted: o.metrics.Swept, Log: o.log})
}

// engine adds the engine's figures and checks, and notes of the models that it
// cannot use.
func (o *observed) engine(e engine, models configs.Models) {
	source := telemetry.EngineSource{Status: e.Status}
	if pool, ok := e.(*remote.Pool); ok {
		source.Health = pool.Health
		o.health.Probe("engine_answers", func(ctx context.Context) error {
			if pool.Busy() > 0 {
				return nil // it may be slow to answer, and is watched as it works
			}
			_, err := pool.Status(ctx)
			return err
		})
	}
	o.metrics.Engine(source)
	o.health.Check("engine", func() error {
		if e.Capacity() == 0 {
			return errNoDevice
		}
		return nil
	})
	o.health.Notes(func(ctx context.Context) (map[string]string, error) {
		status, err := e.Status(ctx)
		if err != nil {
			return nil, err
		}
		notes := badFolders(models)
		for _, m := range status.BadModels {
			notes["model "+m.Name] = m.Reason
		}
		return notes, nil
	})
}

// badFolders says of folders of the catalogue why they are no models.
func badFolders(c configs.Models) map[string]string {
	bad := map[string]string{}
	catalogue, err := catalogue(c.Directory)
	if err != nil {
		return bad
	}
	entries, err := catalogue.List()
	if err != nil {
		bad["models"] = err.Error()
	}
	for _, e := range entries {
		if e.Err != nil {
			bad["model "+e.Name] = e.Err.Error()
		}
	}
	return bad
}

// queue adds the consumer's figures and checks.
func (o *observed) queue(c *queue.Consumer) {
	for name := range c.Checks() {
		o.health.Check(name, func() error { return c.Checks()[name] })
	}
	o.metrics.Queues(c.Depths)
}

func (o *observed) end() {
	o.stop()
	o.probing.Wait()
	if err := o.server.Close(); err != nil {
		o.log.Warn("metrics and health have not ended well", "error", err)
	}
	o.endTracing()
}

func (o *observed) endTracing() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := o.tracer.Shutdown(ctx); err != nil {
		o.log.Warn("the last traces were not sent", "error", err)
	}
}
