package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/queue"
)

func (a *app) sweepCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Clear away what crashes left, and what is past its retention",
		Long: `Does once what every running worker does all the time. In the storage it deletes
images that no record names, uploads that were never finished, and probes. What
is younger than an hour stays, and for a day the images of a job that has no
record yet, and uploads. What is past its retention goes too, unless its subject
is on hold. In the configured queues it deletes entries that nobody
can read, and puts jobs back that no worker has. Safe beside running workers.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load(configs.NeedStorage)
			if err != nil {
				return err
			}
			bucket, err := openBucket(c.Storage)
			if err != nil {
				return err
			}
			defer bucket.Close()
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			client, err := queue.NewClient(clientOptions(c))
			if err != nil {
				return err
			}
			defer client.Close()
			return a.sweep(ctx, dry, janitor.New(janitor.Options{Bucket: bucket, Retention: retention(c.Retention), Log: a.logger(c.Log)}), client, slices.Sorted(maps.Keys(c.Queues)))
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be deleted")
	return cmd
}

// sweep sweeps the queues also when the storage fails, and the other way round.
func (a *app) sweep(ctx context.Context, dry bool, storage *janitor.Janitor, client *queue.Client, queues []string) error {
	objects, bytes, entries := 0, int64(0), 0
	var printErr error
	show := func(f janitor.Finding) {
		if printErr == nil {
			printErr = a.printFinding(f)
		}
	}
	err := storage.Sweep(ctx, dry, func(f janitor.Finding) {
		objects, bytes = objects+1, bytes+f.Size
		show(f)
	})
	queueErr := client.Sweep(ctx, queues, dry, func(l queue.Leftover) {
		entries++
		kind := janitor.Kind("job that no worker has; goes back to its queue")
		if l.Unreadable {
			kind = "entry of a queue that nobody can read"
		}
		show(janitor.Finding{Kind: kind, Key: l.Queue + "/" + cmp.Or(l.ID, "…"), Size: l.Size})
	})
	if queueErr != nil {
		queueErr = fmt.Errorf("sweep the queues: %w", queueErr)
	}
	verb := "cleared away"
	if dry {
		verb = "would be cleared away"
	}
	fmt.Fprintf(a.stderr, "%d objects (%d bytes) and %d queue entries %s\n", objects, bytes, entries, verb)
	return errors.Join(err, queueErr, printErr)
}

func (a *app) printFinding(f janitor.Finding) error {
	if a.json {
		return a.print(f)
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %s old  %s\n", f.Key, f.Age.Round(time.Minute), f.Kind)
	return err
}
