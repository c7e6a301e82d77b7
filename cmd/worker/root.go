package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// rootCommand is the whole command line.
func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "worker",
		Short: "Makes pictures from jobs in Redis with diffusion models on ONNX Runtime",
		Long: `worker takes jobs from Redis, runs text-to-image and image-to-image models with
ONNX Runtime, stores the images and a record of how they were made, and deletes
every intermediate copy.

Try it with nothing to install:   worker demo
Make one picture, no queue:       worker generate --model demo --prompt "a red star on a blue background" --output out
See how it is configured:         worker config show
Run the daemon:                   worker run --config worker.yaml

Exit status: 0 done, 1 the work failed, 2 wrong usage or invalid job,
69 a service or a device is away, 78 wrong configuration.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration `FILE` (else $IMGUS_CONFIG, else the defaults)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print results as JSON, one document a line")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		a.runCommand(), a.demoCommand(), a.generateCommand(), a.enqueueCommand(), a.statusCommand(), a.cancelCommand(),
		a.configCommand(), a.modelsCommand(), a.doctorCommand(), a.benchCommand(), a.topCommand(), a.sweepCommand(), a.eraseCommand(), a.exportCommand(), a.holdCommand(), a.versionCommand(), a.engineCommand(),
	)
	return root
}

// args checks the number of arguments, with a wrong number as wrong usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usage("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return usage("unknown command %q; see %s --help", strings.Join(given, " "), cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	c.AddCommand(commands...)
	return c
}

// print writes one JSON document on one line.
func (a *app) print(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	_, err = fmt.Fprintln(a.stdout, string(data))
	return err
}
