package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/janitor"
)

func (a *app) sweepCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Delete what crashes left in the storage",
		Long: `Does once what every running worker does about every hour: deletes images that
no record names, and probes of the storage. What is younger than an hour stays,
and for a day the images of a job that has no record yet. Safe beside running
workers.`,
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
			count, bytes := 0, int64(0)
			var printErr error
			err = janitor.New(janitor.Options{Bucket: bucket, Log: a.logger(c.Log)}).Sweep(ctx, dry, func(f janitor.Finding) {
				count, bytes = count+1, bytes+f.Size
				if printErr == nil {
					printErr = a.printFinding(f)
				}
			})
			if err != nil {
				return err
			}
			verb := "deleted"
			if dry {
				verb = "would be deleted"
			}
			fmt.Fprintf(a.stderr, "%d objects, %d bytes %s\n", count, bytes, verb)
			return printErr
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would be deleted")
	return cmd
}

func (a *app) printFinding(f janitor.Finding) error {
	if a.json {
		return a.print(f)
	}
	_, err := fmt.Fprintf(a.stdout, "%s  %s old  %s\n", f.Key, f.Age.Round(time.Minute), f.Kind)
	return err
}
