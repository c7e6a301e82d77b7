package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// engine tries ONNX Runtime, what its providers need, and each device.
func (d *doctor) engine(ctx context.Context) {
	c := d.config.Engine
	library, err := findLibrary(c.Library)
	if err != nil {
		d.fail("onnxruntime", err, "scripts/onnxruntime.sh fetches it; set engine.library to the path that it prints")
		return
	}
	silent := slog.New(slog.DiscardHandler)
	found, err := remote.Probe(ctx, remote.Options{Args: []string{"engine", "--probe", "--library", library}, Environ: d.app.environ, Log: silent})
	if err != nil {
		d.fail("onnxruntime", err, "give engine.library a library of version 1.24 or later for this machine")
		return
	}
	d.ok("onnxruntime", "%s loads", library)
	d.providers(ctx, library)
	configured := d.app.isolatedDevices(ctx, c.Devices, library, silent)
	for _, device := range found {
		switch {
		case device.Error != "" && (c.Devices.Auto() || slices.Contains(configured, device.Device)):
			d.unusable(device, library)
		case device.Error == "" && !slices.Contains(configured, device.Device):
			d.ok("device", "%s %s is there and not configured", device.Device, device.Name)
		}
	}
	for _, device := range configured {
		d.device(ctx, device, library)
	}
}

// unusable tells of a GPU that is there and cannot start.
func (d *doctor) unusable(device remote.Device, library string) {
	do := "is the driver new enough for this build of ONNX Runtime? the provider lines above name what it misses; docs/gpu.md"
	if strings.Contains(device.Error, onnx.ErrNoCUDA.Error()) {
		do = library + " is the library for the processor: set engine.library to the path that scripts/onnxruntime.sh cuda13 prints"
	}
	d.fail("device", fmt.Errorf("%s %s: %s", device.Device, device.Name, device.Error), do)
}

// device draws a small picture, as the worker would: in a process of its own.
func (d *doctor) device(ctx context.Context, device, library string) {
	c := d.config
	c.Engine.Library, c.Engine.Devices, c.Log.Level = library, []string{device}, "error"
	engine, err := d.app.openPool(ctx, c, "", slog.New(slog.DiscardHandler))
	if err != nil {
		d.fail("device", fmt.Errorf("%s: %w", device, err), "see docs/gpu.md")
		return
	}
	defer engine.Close()
	prompt, steps := "", 1
	result, err := engine.Generate(ctx, inference.Request{Job: &job.Job{
		Version: job.Version, ID: "doctor", Kind: job.TextToImage, Model: "demo", Prompt: &prompt, Steps: &steps,
	}})
	if err != nil {
		d.fail("device", fmt.Errorf("%s: %w", device, err), "see docs/gpu.md")
		return
	}
	total := result.Timings[job.StageDenoise] + result.Timings[job.StageText] + result.Timings[job.StageVAE]
	d.ok("device", "%s (%s) draws: %d ms for one step of the demo model after %d ms of loading", device, result.Engine.Provider, total, result.Timings[job.StageLoad])
	if status, err := engine.Status(ctx); err == nil && len(status.Devices) == 1 {
		of := status.Devices[0]
		d.ok("device", "%s: models and jobs may take %d MiB of its memory (%s)", device, of.MemoryBudget>>20, of.MemoryBudgetReason)
	}
	if health := engine.Health(); len(health) == 1 && health[0].Confined == "" {
		d.warn("device", device+": the engine's process is not confined: "+health[0].Unconfined, "seccomp is missing or forbidden here; the engine could reach the network if it were hijacked")
	} else if len(health) == 1 {
		d.ok("device", "%s: its process has no network and no credentials (%s)", device, health[0].Confined)
	}
}

// providers looks for what the provider libraries beside ONNX Runtime need.
func (d *doctor) providers(ctx context.Context, library string) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(library), "libonnxruntime_providers_*.so")) // the pattern is good
	if len(files) == 0 {
		d.ok("provider", "the processor alone: no provider library lies beside ONNX Runtime")
		return
	}
	places := append(filepath.SplitList(lookupEnv(d.app.environ, "LD_LIBRARY_PATH")), filepath.Dir(library))
	known := linkerCache(ctx)
	for _, file := range files {
		name := filepath.Base(file)
		needed, err := importedLibraries(file)
		if err != nil {
			d.fail("provider", fmt.Errorf("%s: %w", name, err), "fetch ONNX Runtime again")
			continue
		}
		var missing []string
		for _, n := range needed {
			if !slices.Contains(known, n) && !slices.ContainsFunc(places, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, n)); return err == nil }) {
				missing = append(missing, n)
			}
		}
		if len(missing) == 0 {
			d.ok("provider", "%s has all that it needs", name)
			continue
		}
		d.warn("provider", name+" misses "+strings.Join(missing, ", "), "install CUDA and cuDNN of the versions that these names end with, or add their folder to LD_LIBRARY_PATH")
	}
}

func importedLibraries(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read library: %w", err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read library: %w", err)
	}
	return needed, nil
}

// linkerCache are the names that the dynamic linker finds by itself.
func linkerCache(ctx context.Context) []string {
	out, err := exec.CommandContext(ctx, "/sbin/ldconfig", "-p").Output()
	if err != nil {
		return nil
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " ("); ok {
			names = append(names, name)
		}
	}
	return names
}

func lookupEnv(environ []string, name string) string {
	for _, variable := range environ {
		if value, ok := strings.CutPrefix(variable, name+"="); ok {
			return value
		}
	}
	return ""
}

// models holds every model to its rules and digests.
func (d *doctor) models(ctx context.Context) {
	dir := d.config.Models.Directory
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		d.warn("models", dir+" does not exist: only the model inside the program is there", "worker models import puts a model there; or set models.directory")
	}
	catalogue, err := catalogue(dir)
	if err != nil {
		d.fail("models", err, "")
		return
	}
	entries, err := catalogue.List()
	if err != nil {
		d.fail("models", err, "let the worker's user read models.directory")
		return
	}
	for _, e := range entries {
		row := verifyRow{Name: e.Name}
		switch err := row.verify(ctx, e, (*models.Model).Verify); {
		case err != nil:
			d.fail("model", fmt.Errorf("%s: %w", e.Name, err), "import it again with worker models import, or take the folder away")
		case !row.HasDigests && e.Model.Dir != "":
			d.warn("model", e.Name+" has no digests: nobody can tell whether it was changed", "worker models import writes them")
		default:
			d.ok("model", "%s (%s) %s", e.Name, e.Model.Manifest.Family, row.Digest)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		d.disk(dir)
	}
}

// disk warns where less than a twentieth, or than a gigabyte, is left.
func (d *doctor) disk(dir string) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Blocks == 0 {
		return // what lies there has been tried
	}
	free, size := s.Bavail*uint64(s.Bsize), s.Blocks*uint64(s.Bsize) //nolint:gosec // both are positive
	const gigabyte = 1 << 30
	if free < gigabyte || free < size/20 {
		d.warn("disk", fmt.Sprintf("%s has %.1f of %.1f GiB left", dir, float64(free)/gigabyte, float64(size)/gigabyte), "make room")
		return
	}
	d.ok("disk", "%s has %.1f GiB left", dir, float64(free)/gigabyte)
}
