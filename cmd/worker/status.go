package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status ID",
		Short: "Show where a job stands, or its record when it has ended",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			id := given[0]
			if !job.ValidID(id) {
				return usage("%q is no job id", id)
			}
			if record := a.recordOf(cmd.Context(), id); record != nil {
				return a.printRecord(record)
			}
			return a.withClient(func(client *queue.Client) error {
				status, err := client.Status(cmd.Context(), id)
				if err != nil {
					return fmt.Errorf("job %s: %w", id, err)
				}
				return a.printStatus(status)
			})
		},
	}
}

func (a *app) cancelCommand() *cobra.Command {
	var keyless bool
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a job",
		Long: `Ends a job: one that waits at once; one that a worker has within a denoising
step. Nothing of it becomes visible afterwards. A job that has ended already is
shown as it stands, with exit status 1.

A sealed job whose key is not here is left to a worker that has it. Where the
key is lost for good, --without-key ends it: its photo then stays until
retention deletes it, and its subject is not known.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			id := given[0]
			if !job.ValidID(id) {
				return usage("%q is no job id", id)
			}
			return a.withClient(func(client *queue.Client) error { return a.cancel(cmd.Context(), client, id, keyless) })
		},
	}
	cmd.Flags().BoolVar(&keyless, "without-key", false, "end it although its key is not here")
	return cmd
}

func (a *app) cancel(ctx context.Context, client *queue.Client, id string, keyless bool) error {
	status, err := client.Cancel(ctx, id)
	if err != nil && !errors.Is(err, queue.ErrFinished) {
		return fmt.Errorf("job %s: %w", id, err)
	}
	if err == nil {
		if err := a.cancelWaiting(ctx, client, status, keyless); err != nil {
			return err
		}
		if status, err = client.Status(ctx, id); err != nil {
			return fmt.Errorf("job %s: %w", id, err)
		}
		return a.printStatus(status)
	}
	if err := a.printStatus(status); err != nil {
		return err
	}
	return failed()
}

// cancelWaiting records that a job was cancelled which no worker has. Without a
// storage the mark has to do, which the worker finds that takes the job.
func (a *app) cancelWaiting(ctx context.Context, client *queue.Client, status queue.Status, keyless bool) error {
	c, err := a.load(configs.NeedStorage)
	if err != nil {
		return nil
	}
	j, err := client.Waiting(status.ID)
	if errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrShut) {
		j = &job.Job{ID: status.ID}
		if !keyless {
			fmt.Fprintf(a.stderr, "worker: job %s: %v; a worker that has the key ends it, or --without-key\n", status.ID, err)
			client.GoOn(queue.Entry{Queue: status.Queue, Job: j})
			return nil
		}
		err = nil
	}
	if err != nil || j == nil {
		return err
	}
	bucket, err := openBucket(c.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	p := processor.New(processor.Options{Bucket: bucket, Record: recorder(c.Record), SubjectKey: []byte(secret(c.Privacy.SubjectKey)), Log: a.logger(c.Log)})
	outcome, err := p.Cancel(ctx, j, job.Attempt{ID: queue.NewID()})
	if err != nil {
		return err
	}
	return client.Withdraw(ctx, status.ID, outcome)
}

// withClient opens the queue's client for one command.
func (a *app) withClient(use func(*queue.Client) error) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	client, err := queue.NewClient(clientOptions(c))
	if err != nil {
		return err
	}
	defer client.Close()
	return use(client)
}

func (a *app) printStatus(s queue.Status) error {
	if a.json {
		return a.print(s)
	}
	line := fmt.Sprintf("%s  %s", s.ID, s.State)
	if s.State == job.Running {
		line += fmt.Sprintf("  %s", s.Stage)
		if s.Steps > 0 {
			line += fmt.Sprintf(" %d/%d", s.Step, s.Steps)
		}
	}
	if s.Attempt > 0 {
		line += fmt.Sprintf("  attempt %d", s.Attempt)
	}
	if s.ErrorCode != "" {
		line += fmt.Sprintf("  %s", s.ErrorCode)
	}
	_, err := fmt.Fprintln(a.stdout, line)
	return err
}

func (a *app) printRecord(r *job.Record) error {
	if a.json {
		return a.print(r)
	}
	if _, err := fmt.Fprintf(a.stdout, "%s  %s\n", r.ID, r.State); err != nil {
		return err
	}
	if r.Error != nil {
		if _, err := fmt.Fprintf(a.stdout, "  %s: %s\n", r.Error.Code, r.Error.Message); err != nil {
			return err
		}
	}
	for _, image := range r.Images {
		if _, err := fmt.Fprintf(a.stdout, "  %s  %dx%d  seed %d\n", image.Key, image.Width, image.Height, image.Seed); err != nil {
			return err
		}
	}
	return nil
}
