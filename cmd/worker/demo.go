package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/demo"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/directory"
)

func (a *app) demoCommand() *cobra.Command {
	var flags jobFlags
	var output string
	var isolated bool
	cmd := &cobra.Command{
		Use:   "demo [PROMPT]",
		Short: "Draw a picture on this machine, with nothing to install",
		Long: `Goes the whole way on one machine: an in-memory Redis, a folder as the storage,
the model inside the program on the processor. A real job goes through the real
queue. The model draws one coloured shape:

  a [small|large] COLOUR SHAPE on a COLOUR background

  colours  red green blue yellow purple orange white black pink cyan
  shapes   circle square triangle star heart ring moon cross`,
		Example: `  worker demo
  worker demo "a small red heart on a white background"
  worker demo --input photo.jpg --strength 0.6 "a large yellow star on a purple background"`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			flags.prompt = demo.Prompt
			if len(given) > 0 {
				flags.prompt = given[0]
			}
			flags.model = demo.Name
			j := flags.job(cmd)
			j.Prompt = &flags.prompt
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.demo(ctx, j, flags.input, output, isolated)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.input, "input", "", "photo `FILE` to start from")
	f.Float64Var(&flags.strength, "strength", 0, "how far to go from the photo, 0 to 1")
	f.Int64Var(&flags.seed, "seed", 0, "seed of the picture (default: a new one each time)")
	f.IntVar(&flags.steps, "steps", 0, "denoising steps")
	f.StringVar(&output, "output", "demo-output", "`DIR` for the picture and its record")
	registerIsolate(cmd, &isolated)
	return cmd
}

func (a *app) demo(ctx context.Context, j *job.Job, input, output string, isolated bool) (err error) {
	// Nothing but the engine's settings matters to it.
	c := configs.Default()
	configured, _ := a.load()
	c.Engine = configured.Engine
	c.Engine.Devices = configs.Devices{"cpu"}
	c.Models.Directory = ""
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	bucket, err := directory.Open(output)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bucket.Close()) }()
	var photo []byte
	if input != "" {
		if photo, err = readInput(input, "input"); err != nil {
			return err
		}
		j.Input = new(storage.InputKey(j.ID, "input"))
	}
	if err := j.Validate(job.Limits{}); err != nil {
		return err
	}
	engine, err := a.startEngine(ctx, c, isolated, "", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	redis, err := miniredis.Run()
	if err != nil {
		return fmt.Errorf("start in-memory redis: %w", err)
	}
	defer redis.Close()
	consumer, err := queue.NewConsumer(queue.Options{
		Connection: queue.Connection{URL: redis.Addr()}, Queues: c.Queues, Concurrency: engine.Slots(), MaxAttempts: c.Job.MaxAttempts,
		Timeout: c.Job.Timeout, StatusTTL: c.Job.StatusTTL,
		Handler: processor.New(processor.Options{Bucket: bucket, Engine: engine, Record: recorder(c.Record), Verify: verifier(c.Mark), Log: log}),
		Log:     log, Version: version,
	})
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(serving) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	if photo != nil {
		if err := bucket.Put(ctx, *j.Input, photo, storage.PutOptions{ContentType: "application/octet-stream"}); err != nil {
			return fmt.Errorf("store photo: %w", err)
		}
		// The job's end deletes it; this is for a demo that is interrupted.
		defer func() { err = errors.Join(err, bucket.Delete(context.WithoutCancel(ctx), *j.Input)) }()
	}
	return a.demoJob(ctx, j, queue.Connection{URL: redis.Addr()}, firstQueue(c.Queues), bucket, output)
}

// demoJob enqueues the job as a backend does, follows it, and shows what it
// made.
func (a *app) demoJob(ctx context.Context, j *job.Job, connection queue.Connection, queueName string, bucket storage.Bucket, output string) error {
	client, err := queue.NewClient(queue.ClientOptions{Connection: connection})
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Enqueue(ctx, j, queueName); err != nil {
		return fmt.Errorf("enqueue job: %w", err)
	}
	if _, err := a.watch(ctx, client, j.ID); err != nil {
		return err
	}
	record, err := readRecord(ctx, bucket, j.ID)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.print(record); err != nil {
			return err
		}
	} else if err := a.printDemo(record, *j.Prompt, output); err != nil {
		return err
	}
	if record.State != job.Done {
		return failed()
	}
	return nil
}

func (a *app) printDemo(r *job.Record, prompt, output string) error {
	var b strings.Builder
	if r.Error != nil {
		fmt.Fprintf(&b, "The job failed. %s: %s\n", r.Error.Code, r.Error.Message)
	}
	for _, image := range r.Images {
		fmt.Fprintf(&b, "Drew %q, seed %d.\n\n", prompt, image.Seed)
		fmt.Fprintf(&b, "picture  %s\n", filepath.Join(output, filepath.FromSlash(image.Key)))
	}
	fmt.Fprintf(&b, "record   %s\n", filepath.Join(output, filepath.FromSlash(storage.RecordKey(r.ID))))
	if len(r.Timings) > 0 {
		b.WriteString("\n")
	}
	for _, stage := range job.Stages() {
		if ms, ok := r.Timings[stage]; ok {
			fmt.Fprintf(&b, "%-8s %8s\n", stage, time.Duration(ms)*time.Millisecond)
		}
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}
