package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/models"
)

func (a *app) modelsCommand() *cobra.Command {
	return group("models", "Look after the models", a.modelsListCommand(), a.modelsVerifyCommand(), a.modelsImportCommand())
}

// modelRow is what a catalogue's entry shows.
type modelRow struct {
	Name    string        `json:"name"`
	Family  models.Family `json:"family,omitempty"`
	License string        `json:"license,omitempty"`
	Place   string        `json:"place,omitempty"`
	Digest  string        `json:"digest,omitempty"`
	Error   string        `json:"error,omitempty"`
}

func (a *app) modelsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the models of the catalogue",
		Long: `Lists the folders of models.directory and the model inside the program, each with
its family. A folder that is no model is shown with the reason, and the exit
status is then 1.`,
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			models, err := catalogue(c.Models.Directory)
			if err != nil {
				return err
			}
			entries, err := models.List()
			if err != nil {
				return err
			}
			return a.printModels(entries)
		},
	}
}

func (a *app) printModels(entries []models.Entry) error {
	table := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if !a.json {
		fmt.Fprintln(table, "NAME\tFAMILY\tLICENSE\tPLACE")
	}
	broken := false
	for _, e := range entries {
		row := modelRow{Name: e.Name}
		if e.Err != nil {
			broken, row.Error = true, e.Err.Error()
		} else {
			row.Family, row.License, row.Place = e.Model.Manifest.Family, e.Model.Manifest.License, e.Model.Dir
			if row.Place == "" {
				row.Place = "inside the program"
			}
		}
		switch {
		case a.json:
			if err := a.print(row); err != nil {
				return err
			}
		case row.Error != "":
			fmt.Fprintf(table, "%s\tbroken: %s\n", row.Name, row.Error)
		default:
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", row.Name, row.Family, row.License, row.Place)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if broken {
		return failed()
	}
	return nil
}
