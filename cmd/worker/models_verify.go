package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/models"
)

func (a *app) modelsVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Check models again: every rule, every byte",
		Long: `Holds models to the rules of import, and reads every file to compare it with
the digests of its model.yaml. Without names, every model of the catalogue. The
exit status is 1 if any is bad.`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, names []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return a.verifyModels(ctx, c.Models.Directory, names)
		},
	}
}

func (a *app) verifyModels(ctx context.Context, dir string, names []string) error {
	catalogue, err := catalogue(dir)
	if err != nil {
		return err
	}
	entries, err := catalogue.List()
	if err != nil {
		return err
	}
	if len(names) > 0 {
		entries = entries[:0]
		for _, name := range names {
			m, err := catalogue.Find(name)
			entries = append(entries, models.Entry{Name: name, Model: m, Err: err})
		}
	}
	bad := false
	for _, e := range entries {
		row := verifyRow{Name: e.Name}
		if err := row.verify(ctx, e, (*models.Model).VerifyAnew); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			bad, row.Error = true, err.Error()
		}
		if err := a.printVerified(row); err != nil {
			return err
		}
	}
	if bad {
		return failed()
	}
	return nil
}

// verifyRow is what verify says of a model.
type verifyRow struct {
	Name   string        `json:"name"`
	Family models.Family `json:"family,omitempty"`
	Digest string        `json:"digest,omitempty"`
	// HasDigests: model.yaml has digests to compare with.
	HasDigests bool   `json:"has_digests"`
	Error      string `json:"error,omitempty"`
}

func (r *verifyRow) verify(ctx context.Context, e models.Entry, read func(*models.Model, context.Context) (string, error)) error {
	if e.Err != nil {
		return e.Err
	}
	r.Family, r.HasDigests = e.Model.Manifest.Family, len(e.Model.Manifest.Files) > 0
	if err := e.Model.Check(); err != nil {
		return err
	}
	digest, err := read(e.Model, ctx)
	r.Digest = digest
	return err
}

func (a *app) printVerified(r verifyRow) error {
	switch {
	case a.json:
		return a.print(r)
	case r.Error != "":
		fmt.Fprintf(a.stdout, "%s  bad: %s\n", r.Name, r.Error)
	case r.HasDigests:
		fmt.Fprintf(a.stdout, "%s  ok  %s\n", r.Name, r.Digest)
	default:
		fmt.Fprintf(a.stdout, "%s  ok, with no digests in model.yaml to compare  %s\n", r.Name, r.Digest)
	}
	return nil
}
