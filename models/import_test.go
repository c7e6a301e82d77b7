package models_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/onnxfile"
)

// inFolder lists what is in a folder, hidden or not.
func inFolder(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestImport(t *testing.T) {
	source, dir := copyModel(t, "sd1"), filepath.Join(t.TempDir(), "models")
	write(t, []byte("---\nlicense: creativeml-openrail-m\ntags: [x]\n---\n# A model\n"), source, "README.md")
	write(t, []byte("#!/bin/sh\n"), source, ".git", "hooks", "pre-commit")
	catalogue := models.New(dir)
	compared, smoked := "", ""
	var steps []string
	copied := int64(0)
	m, err := catalogue.Import(t.Context(), source, models.ImportOptions{
		Name: "mine",
		SameNoise: func(_ context.Context, batch, perSample string) error {
			for file, want := range map[string][]int64{batch: nil, perSample: {onnxfile.Dynamic}} {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				graph, err := onnxfile.Parse(data)
				if err != nil {
					return err
				}
				if diff := cmp.Diff(want, graph.Inputs[1].Dims); diff != "" {
					t.Error(diff)
				}
			}
			compared = batch
			return nil
		},
		Smoke: func(ctx context.Context, m *models.Model) error {
			smoked = m.Manifest.Name
			_, err := m.Verify(ctx)
			return err
		},
		Progress: func(step string, done, total int64) {
			if !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
			if total > 0 && done == total {
				copied = done
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if compared == "" || smoked != "mine" || copied < 1<<20 || steps[0] != "checking" {
		t.Errorf("compared %q, smoked %q, copied %d, steps %v", compared, smoked, copied, steps)
	}
	if diff := cmp.Diff([]string{"mine"}, inFolder(t, dir)); diff != "" {
		t.Error(diff)
	}
	if m.Manifest.Name != "mine" || m.Manifest.Family != models.SD1 || m.Manifest.License != "creativeml-openrail-m" || len(m.Manifest.Files) != 15 {
		t.Errorf("the manifest is %+v", m.Manifest)
	}
	if d := m.Manifest.Defaults; *d.Width != 64 || *d.Height != 64 || *d.Steps != 50 || *d.GuidanceScale != 7.5 || m.Manifest.Limits.Width != 512 {
		t.Errorf("defaults and limits are %+v", m.Manifest)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	verify(t, m)
	if _, err := os.Stat(filepath.Join(dir, "mine", ".git")); !os.IsNotExist(err) {
		t.Error("hidden files were copied")
	}
	graph, err := os.ReadFile(filepath.Join(dir, "mine", "unet", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	original, err := os.ReadFile(filepath.Join(testModels, "sd1", "unet", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	edited, err := onnxfile.Parse(original)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := edited.VectorTimestep("timestep"); err != nil || !bytes.Equal(edited.Encode(), graph) {
		t.Error("the graph was written otherwise than edited", err)
	}
}

// TestFailedImportLeavesNothing fails at every place where an import can.
// Whoever imports, the worker's user can read it.
func TestImportIsReadableToAll(t *testing.T) {
	source, dir := copyModel(t, "sd1"), filepath.Join(t.TempDir(), "var", "models")
	old := unix.Umask(0o077)
	_, err := models.New(dir).Import(t.Context(), source, models.ImportOptions{Name: "mine"})
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Dir(dir), func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := os.FileMode(0o644)
		if d.IsDir() {
			want = 0o755
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s is %s", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestFailedImportLeavesNothing(t *testing.T) {
	why := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	for name, tt := range map[string]struct {
		ctx   context.Context
		spoil func(source string)
		o     models.ImportOptions
		want  error
	}{
		"the noise differs": {o: models.ImportOptions{SameNoise: func(context.Context, string, string) error { return why }}, want: why},
		"no picture":        {o: models.ImportOptions{Smoke: func(context.Context, *models.Model) error { return why }}, want: why},
		"cancelled while copying": {ctx: ctx, want: why, o: models.ImportOptions{Progress: func(_ string, done, _ int64) {
			if done > 1<<19 {
				cancel(why)
			}
		}}},
		"hostile":             {spoil: func(source string) { write(t, []byte("x"), source, "libops.so") }, want: models.ErrRefused},
		"hostile in a folder": {spoil: func(source string) { write(t, graph("../x"), source, "unet", "model.onnx") }, want: models.ErrRefused},
		"a manifest that lies": {spoil: func(source string) {
			seal(t, source)
			write(t, []byte("{}"), source, "unet", "config.json")
		}, want: models.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			source, dir := copyModel(t, "sd1"), t.TempDir()
			if tt.spoil != nil {
				tt.spoil(source)
			}
			if tt.ctx == nil {
				tt.ctx = t.Context()
			}
			_, err := models.New(dir).Import(tt.ctx, source, tt.o)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
			if left := inFolder(t, dir); len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		})
	}
}

func TestSourceThatChangesWhileItIsCopied(t *testing.T) {
	source, dir := copyModel(t, "sd1"), t.TempDir()
	changed := false
	_, err := models.New(dir).Import(t.Context(), source, models.ImportOptions{Progress: func(step string, _, _ int64) {
		if step == "copying" && !changed {
			changed = true
			write(t, graph("/etc/passwd"), source, "unet", "model.onnx")
		}
	}})
	if !errors.Is(err, models.ErrRefused) || !strings.Contains(err.Error(), "no plain path") {
		t.Errorf("got %v", err)
	}
	if left := inFolder(t, dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestImportOfANameThatIsTaken(t *testing.T) {
	source, dir := copyModel(t, "sd1"), t.TempDir()
	catalogue := models.New(dir, demoModel(t))
	imported := func(from, name string, replace bool) error {
		_, err := catalogue.Import(t.Context(), from, models.ImportOptions{Name: name, Replace: replace})
		return err
	}
	if err := imported(source, "mine", false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "demo"} {
		if err := imported(source, name, false); !errors.Is(err, models.ErrExists) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := imported(copyModel(t, "turbo"), "mine", true); err != nil {
		t.Fatal(err)
	}
	m, err := catalogue.Find("mine")
	if err != nil || m.Manifest.Family != models.Turbo {
		t.Errorf("%+v, %v", m, err)
	}
	if diff := cmp.Diff([]string{"mine"}, inFolder(t, dir)); diff != "" {
		t.Error(diff)
	}
	// Another folder that holds the name would shadow the new one.
	if err := os.Rename(filepath.Join(dir, "mine"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := imported(source, "mine", true); !errors.Is(err, models.ErrExists) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"../x", ".hidden", "a b"} {
		if err := imported(source, name, false); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
}

// TestImportOfAnImport: what an operator wrote into model.yaml stays.
func TestImportOfAnImport(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	if _, err := models.New(first).Import(t.Context(), copyModel(t, "sdxl"), models.ImportOptions{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(first, "mine", "model.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, bytes.Replace(data, []byte("steps: 50"), []byte("steps: 33"), 1), file)
	m, err := models.New(second).Import(t.Context(), filepath.Join(first, "mine"), models.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Manifest.Name != "mine" || *m.Defaults.Steps != 33 || m.Manifest.Family != models.SDXL {
		t.Errorf("the manifest is %+v", m.Manifest)
	}
}

func TestImportSweepsWhatWasKilled(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".import-old": 48 * time.Hour, ".import-new": time.Hour, ".other": 48 * time.Hour} {
		write(t, []byte("x"), dir, name, "x")
		then := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := models.New(dir).Import(t.Context(), copyModel(t, "sd1"), models.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".import-new", ".other", "sd1"}, inFolder(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestLicenses(t *testing.T) {
	for name, tt := range map[string]struct{ file, text, want string }{
		"model card":       {"README.md", "---\r\nlicense: openrail++\r\n---\r\n", "openrail++"},
		"named by itself":  {"README.md", "---\nlicense: other\nlicense_name: sai-nc-community\n---\n", "sai-nc-community"},
		"no front matter":  {"README.md", "# A model\nlicense: x\n", ""},
		"open end":         {"README.md", "---\nlicense: x\n", ""},
		"a list":           {"README.md", "---\nlicense: [a, b]\n---\n", ""},
		"Apache":           {"LICENSE", "                 Apache License\n           Version 2.0", "apache-2.0"},
		"Open RAIL":        {"LICENSE.md", "Copyright (c) 2022\n\nCreativeML Open RAIL++-M License", "openrail++"},
		"something else":   {"LICENSE.txt", "All rights reserved", ""},
		"bad line in card": {"README.md", "---\nlicense: \"a\\nb\"\n---\n", ""},
	} {
		source := copyModel(t, "sd1")
		write(t, []byte(tt.text), source, tt.file)
		m, err := models.New(t.TempDir()).Import(t.Context(), source, models.ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if m.Manifest.License != tt.want {
			t.Errorf("%s: got %q", name, m.Manifest.License)
		}
	}
}
