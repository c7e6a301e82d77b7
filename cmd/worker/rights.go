package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/queue"
)

const subjectUsage = "the `SUBJECT` as jobs name it (- to read it from standard input, so that no list of processes shows it)"

// subjectOf gives the subject that a command is about.
func (a *app) subjectOf(given string) (string, error) {
	if given == "-" {
		line, err := bufio.NewReader(io.LimitReader(a.stdin, 1<<10)).ReadString('\n')
		if err != nil && line == "" {
			return "", usage("--subject: nothing to read on standard input")
		}
		given = strings.TrimRight(line, "\r\n")
	}
	if given == "" || len(given) > 256 {
		return "", usage("give --subject, of 1 to 256 bytes")
	}
	return given, nil
}

// withRights opens what the rights of a subject need, for one command.
func (a *app) withRights(cmd *cobra.Command, given string, use func(ctx context.Context, r *privacy.Rights, subject string) error) error {
	subject, err := a.subjectOf(given)
	if err != nil {
		return err
	}
	c, err := a.load(configs.NeedStorage, configs.NeedSubjectKey)
	if err != nil {
		return err
	}
	bucket, err := openBucket(c.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	client, err := queue.NewClient(clientOptions(c))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rights := privacy.New(privacy.Options{
		Bucket: bucket, Queue: subjectQueue{client}, SubjectKey: []byte(secret(c.Privacy.SubjectKey)), Log: a.logger(c.Log), Version: version,
	})
	return use(ctx, rights, subject)
}

// subjectQueue is the queue in the terms of package privacy.
type subjectQueue struct{ *queue.Client }

func (q subjectQueue) Jobs(ctx context.Context) iter.Seq2[privacy.Queued, error] {
	return func(yield func(privacy.Queued, error) bool) {
		for e, err := range q.Entries(ctx) {
			if !yield(privacy.Queued(e), err) {
				return
			}
		}
	}
}

func (q subjectQueue) GoOn(e privacy.Queued) { q.Client.GoOn(queue.Entry(e)) }

func (a *app) holdCommand() *cobra.Command {
	var subject string
	var release bool
	cmd := &cobra.Command{
		Use:   "hold --subject S [--release]",
		Short: "Let the jobs of a subject wait, or go on",
		Long: `Puts a subject on hold: none of its jobs begins, and retention deletes nothing of
it, until --release. Jobs wait in their queues and lose no attempt. One that runs
already goes on: end it with worker cancel.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRights(cmd, subject, func(ctx context.Context, r *privacy.Rights, subject string) error {
				change := r.Hold
				if release {
					change = r.Release
				}
				report, err := change(ctx, subject)
				if err != nil {
					return err
				}
				return a.printHold(report)
			})
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", subjectUsage)
	cmd.Flags().BoolVar(&release, "release", false, "end the hold")
	return cmd
}

func (a *app) printHold(r privacy.HoldReport) error {
	if r.Unreadable > 0 {
		fmt.Fprintf(a.stderr, "worker: %d entries of the queues cannot be read here, and could be the subject's\n", r.Unreadable)
	}
	if a.json {
		return a.print(r)
	}
	state := "not on hold"
	if r.Held {
		state = "on hold"
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %d jobs wait, %d run\n", state, r.Waiting, r.Running)
	return err
}
