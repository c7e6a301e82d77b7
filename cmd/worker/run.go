package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/telemetry"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the daemon: take jobs from Redis until told to stop",
		Long: `Takes jobs from the configured queues, makes their pictures and stores them.
When Redis or the storage is away at the start it waits. SIGTERM or Ctrl-C: no
new job is taken; the one in hand is finished within job.shutdown_grace, or
given back for another worker. A second signal ends the grace period, and the
program within two seconds.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(configs.NeedStorage)
			if err != nil {
				return err
			}
			return a.daemon(cmd.Context(), c)
		},
	}
}

func (a *app) daemon(ctx context.Context, c configs.Config) (err error) {
	log := a.logger(c.Log)
	seen, err := a.observe(ctx, c, log)
	if err != nil {
		return err
	}
	defer seen.close()
	opened, err := openBucketThrough(c.Storage, seen.tracer.Transport)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	bucket := seen.storage(opened)
	checks, err := openChecks(c.Safety)
	if err != nil {
		return err
	}
	// Before the signals are set: CUDA replaces Go's handlers when it starts.
	engine, err := a.startEngine(ctx, c, c.Engine.Isolate, "", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	seen.engine(engine, c.Models)
	defer seen.close() // nobody asks an engine that is closed
	warmUps, err := warmUps(c.Engine)
	if err != nil {
		return err
	}
	for _, w := range warmUps {
		if err := engine.WarmUp(ctx, w); err != nil {
			log.Error("model not warmed up", "model", w.Model, "error", err)
		}
	}
	seen.warm.Store(true)
	handler := processor.New(processor.Options{
		Bucket: bucket, Engine: engine, Limits: limits(c.Limits), Record: recorder(c.Record), Guard: checks.guard(engine), Verify: verifier(c.Mark), Log: log,
		SubjectKey: []byte(secret(c.Privacy.SubjectKey)),
	})
	if _, wrong, err := sealKeys(c.Seal).List(); err != nil || len(wrong) > 0 {
		log.Warn("not every file of seal.directory is a key", "error", errors.Join(append(wrong, err)...))
	}
	consumer, err := queue.NewConsumer(queue.Options{
		Connection: connection(c.Redis), Queues: c.Queues, Concurrency: engine.Slots(), Capacity: engine.Capacity, MaxAttempts: c.Job.MaxAttempts,
		Timeout: c.Job.Timeout, ShutdownGrace: c.Job.ShutdownGrace, StatusTTL: c.Job.StatusTTL, Limits: limits(c.Limits), Keys: sealKeys(c.Seal),
		Handler: handler, Gate: bucket.Away, Log: log, Version: version, About: a.about(c, engine),
		Observer: telemetry.Jobs{Metrics: seen.metrics, Tracer: seen.tracer},
	})
	if err != nil {
		return err
	}
	seen.queue(consumer)
	ctx, stop := untilStopped(ctx, consumer.Hurry)
	defer stop()
	if err := bucket.Await(ctx); err != nil {
		return err
	}
	log.Info("worker started", "version", version, "queues", c.Queues, "devices", engine.Devices())
	// The storage is watched until the last job has ended.
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { bucket.Run(beside) })
	sweeper := seen.janitor(bucket, c.Retention)
	background.Go(func() { sweeper.Run(ctx) })
	background.Go(func() {
		r := &reloader{
			app: a, start: c, now: c, checks: checks, engine: engine, processor: handler, consumer: consumer, janitor: sweeper, tracer: seen.tracer, log: log,
		}
		r.run(beside)
	})
	err = consumer.Run(ctx)
	stop() // also when the consumer ended by itself
	end()
	background.Wait()
	if err != nil {
		return err
	}
	log.Info("worker stopped")
	return nil
}

// warmUps are what shall be ready before the first job: the configured models,
// and those to pin.
func warmUps(c configs.Engine) ([]inference.WarmUp, error) {
	var all []inference.WarmUp
	for _, entry := range c.WarmUp {
		w, err := local.ParseWarmUp(entry)
		if err != nil {
			return nil, &exitError{status: exitConfig, err: fmt.Errorf("engine.warm_up: %w", err)}
		}
		w.Pin = slices.Contains(c.Pin, w.Model)
		all = append(all, w)
	}
	for _, model := range c.Pin {
		if !slices.ContainsFunc(all, func(w inference.WarmUp) bool { return w.Model == model }) {
			all = append(all, inference.WarmUp{Model: model, Pin: true})
		}
	}
	return all, nil
}
