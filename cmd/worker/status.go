package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
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
			record, err := a.recordOf(cmd.Context(), id)
			if err != nil {
				return err
			}
			if record != nil {
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
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a job",
		Long: `Asks that the job ends: the worker that has it stops within a step, one that
takes it later does not begin. A job that has ended already is shown as it
stands, with exit status 1.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			id := given[0]
			if !job.ValidID(id) {
				return usage("%q is no job id", id)
			}
			return a.withClient(func(client *queue.Client) error {
				status, err := client.Cancel(cmd.Context(), id)
				if err != nil && !errors.Is(err, queue.ErrFinished) {
					return fmt.Errorf("job %s: %w", id, err)
				}
				if printErr := a.printStatus(status); printErr != nil {
					return printErr
				}
				if err != nil {
					return failed()
				}
				return nil
			})
		},
	}
}

// withClient opens the queue's client for one command.
func (a *app) withClient(use func(*queue.Client) error) error {
	c, err := a.load()
	if err != nil {
		return err
	}
	client, err := queue.NewClient(queue.ClientOptions{Connection: connection(c.Redis), StatusTTL: c.Job.StatusTTL})
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
