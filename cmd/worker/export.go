package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/privacy"
)

func (a *app) exportCommand() *cobra.Command {
	var subject, output string
	cmd := &cobra.Command{
		Use:   "export --subject S --output FILE",
		Short: "Write a copy of everything of a subject",
		Long: `Writes a tar with everything of a subject: records, images, photos and masks that
are still there, jobs that wait or run, and last manifest.json, which lists the
jobs and the SHA-256 of every file. If something could not be had the manifest
says so, the file is kept, and the exit status is 1.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return usage("give --output")
			}
			return a.withRights(cmd, subject, func(ctx context.Context, r *privacy.Rights, subject string) error {
				manifest, err := a.export(ctx, r, subject, output)
				if err != nil && !errors.Is(err, privacy.ErrIncomplete) {
					return err
				}
				return errors.Join(a.printManifest(manifest, output), err)
			})
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", subjectUsage)
	cmd.Flags().StringVar(&output, "output", "", "the tar `FILE` (- for standard output)")
	return cmd
}

// export writes the file whole or not at all.
func (a *app) export(ctx context.Context, r *privacy.Rights, subject, output string) (privacy.Manifest, error) {
	if output == "-" {
		return r.Export(ctx, subject, a.stdout)
	}
	file, err := os.CreateTemp(filepath.Dir(output), ".export-*")
	if err != nil {
		return privacy.Manifest{}, usage("--output: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	manifest, err := r.Export(ctx, subject, file)
	if err != nil && !errors.Is(err, privacy.ErrIncomplete) {
		return manifest, err
	}
	writeErr := file.Close()
	if writeErr == nil {
		writeErr = os.Rename(file.Name(), output)
	}
	if writeErr != nil {
		return manifest, fmt.Errorf("write export: %w", writeErr)
	}
	return manifest, err
}

// printManifest tells what was exported, beside the file if that goes to
// standard output.
func (a *app) printManifest(m privacy.Manifest, output string) error {
	bytes := int64(0)
	for _, f := range m.Files {
		bytes += f.Bytes
	}
	to := a.stdout
	switch {
	case output == "-":
		to = a.stderr
	case a.json:
		return a.print(m)
	}
	_, err := fmt.Fprintf(to, "%d jobs, %d files, %d bytes\n", len(m.Jobs), len(m.Files), bytes)
	return err
}
