package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
)

func (a *app) configCommand() *cobra.Command {
	return group("config", "Check and show the configuration", a.configCheckCommand(), a.configShowCommand())
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and report every problem at once",
		Long: `Checks what worker run would run with: the file, the IMGUS_ variables, the
secret files, and what the safety checks need. Exit status 78 if anything is wrong. With --json it prints
{"problems":[{"key","message"}]}.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			c, _, err := configs.Load(a.configFile, a.environ, configs.NeedStorage)
			if err == nil {
				_, err = openChecks(c.Safety)
			}
			problems, wrong := errors.AsType[*configs.Problems](err)
			if err != nil && !wrong {
				return err
			}
			list := []configs.Problem{}
			if wrong {
				list = problems.List
			}
			if a.json {
				if err := a.print(map[string][]configs.Problem{"problems": list}); err != nil {
					return err
				}
			} else if err := a.printProblems(list); err != nil {
				return err
			}
			if wrong {
				return &exitError{status: exitConfig}
			}
			return nil
		},
	}
}

func (a *app) printProblems(list []configs.Problem) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(a.stdout, "The configuration is good.")
		return err
	}
	for _, p := range list {
		if _, err := fmt.Fprintf(a.stdout, "%s: %s\n", p.Key, p.Message); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) configShowCommand() *cobra.Command {
	var explain bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the effective configuration and where each value comes from",
		Long: `Shows every key with its value and where it comes from: default, file and line,
or variable. With --explain also whether a running worker takes a change of it,
and what comes of the values that the worker chooses by itself (devices, memory
budget, threads, slots, batch), and why; for that it starts an engine.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, sources, err := configs.Load(a.configFile, a.environ)
			if err != nil {
				return err
			}
			if explain {
				return a.explain(cmd.Context(), c, sources)
			}
			table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			for _, s := range configs.Show(c, sources) {
				if a.json {
					if err := a.print(s); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(table, "%s\t%s\t%s\n", s.Key, s.Value, s.Source)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&explain, "explain", false, "say what is chosen automatically, and why")
	return cmd
}
