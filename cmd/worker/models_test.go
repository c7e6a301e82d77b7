package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/onnxfile"
)

// ownCache keeps the digests of a test's models out of the user's cache.
func ownCache(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}

// copyOf copies one of the tests' models into a folder that may be changed.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testModels, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

type importedRow struct{ Name, Family, Digest, Place, Error string }

// TestImportEveryFamily imports each model, and makes a picture that is the
// golden test's too: the edited UNet is the same model.
func TestImportEveryFamily(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+dir)
	for name, family := range map[string]string{
		"sd1": "sd1", "sd2v": "sd2", "sdxl": "sdxl", "turbo": "turbo", "lcm": "lcm", "inpaint9": "inpaint", "pix2pix": "pix2pix",
	} {
		stdout, stderr := p.must(0, "models", "import", filepath.Join(testModels, name), "--json")
		rows := lines[importedRow](t, stdout)
		if len(rows) != 1 || rows[0].Name != name || rows[0].Family != family || !strings.HasPrefix(rows[0].Digest, "sha256:") {
			t.Errorf("%s: %s", name, stdout)
		}
		if !strings.Contains(stderr, "comparing the noise") || !strings.Contains(stderr, "making a picture") {
			t.Errorf("%s: progress is %s", name, stderr)
		}
	}
	stdout, _ := p.must(0, "models", "verify")
	if strings.Count(stdout, "  ok  sha256:") != 7 || !strings.Contains(stdout, "demo  ok, with no digests") {
		t.Errorf("verify says %s", stdout)
	}
	out := t.TempDir()
	picture := func(environ string) string {
		stdout, _ := newProgram(t, environ).must(0, "generate", "--model", "sdxl", "--prompt", "x", "--steps", "2", "--seed", "1", "--id", "a", "--output", out)
		r := oneRecord(t, stdout)
		if r.State != job.Done {
			t.Fatalf("record is %+v", r)
		}
		return r.Images[0].SHA256
	}
	if picture("IMGUS_MODELS_DIRECTORY="+dir) != picture("IMGUS_MODELS_DIRECTORY="+testModels) {
		t.Error("the imported model makes another picture")
	}
}

func TestImportRefuses(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+dir)
	must := func(status int, says string, args ...string) {
		t.Helper()
		_, stderr := p.must(status, append([]string{"models", "import"}, args...)...)
		if !strings.Contains(stderr, says) {
			t.Errorf("%v says %s", args, stderr)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s is left", e.Name())
			}
		}
	}
	good := copyOf(t, "sd1")
	must(2, "accepts 1 arg")
	must(2, "no folder", filepath.Join(dir, "nothing"))
	must(2, "--name", good, "--name", "../x")

	hostile := copyOf(t, "sd1")
	if err := os.Symlink("/etc/passwd", filepath.Join(hostile, "unet", "weights")); err != nil {
		t.Fatal(err)
	}
	must(1, `"unet/weights"`, hostile)

	// It keeps every rule, and yet ONNX Runtime cannot run it.
	broken := copyOf(t, "sd1")
	writeFile(t, filepath.Join(broken, "unet", "model.onnx"), readFile(t, broken, "vae_decoder", "model.onnx"))
	must(1, "the model makes no picture", broken)

	must(0, "", good)
	must(1, "there is a model of this name", good)
	must(0, "", good, "--replace")
	must(0, "", good, "--name", "other")
}

func TestVerifyFindsAFlippedByte(t *testing.T) {
	ownCache(t)
	dir := t.TempDir()
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+dir)
	p.must(0, "models", "import", filepath.Join(testModels, "sd1"))
	p.must(0, "models", "verify", "sd1", "demo")
	file := filepath.Join(dir, "sd1", "vae_decoder", "model.onnx")
	data := readFile(t, file)
	data[len(data)/2] ^= 1
	writeFile(t, file, data)
	stdout, _ := p.must(1, "models", "verify", "--json")
	bad := 0
	for _, row := range lines[importedRow](t, stdout) {
		if row.Error != "" {
			bad++
			if row.Name != "sd1" || !strings.Contains(row.Error, `"vae_decoder/model.onnx"`) {
				t.Errorf("row is %+v", row)
			}
		}
	}
	if bad != 1 {
		t.Errorf("verify says %s", stdout)
	}
	p.must(0, "models", "verify", "demo")
	stdout, _ = p.must(1, "models", "verify", "nothing")
	if !strings.Contains(stdout, "unknown model") {
		t.Errorf("verify says %s", stdout)
	}
}

// TestSameNoise: a scalar timestep of half precision, which the binding does
// not have, an edit that changes what the model predicts, and a graph that
// cannot be loaded.
func TestSameNoise(t *testing.T) {
	a := &app{stderr: io.Discard, environ: os.Environ()}
	c := configs.Config{Engine: configs.Engine{Library: testservices.ONNXRuntime(t), Devices: configs.Devices{"cpu"}}}
	edit := func(name string) string {
		m, err := onnxfile.Parse(readFile(t, "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if changed, err := m.VectorTimestep("timestep"); err != nil || !changed {
			t.Fatal(changed, err)
		}
		return writeFile(t, filepath.Join(t.TempDir(), name), m.Encode())
	}
	half, wrong := filepath.Join("testdata", "half_unet.onnx"), filepath.Join("testdata", "wrong_unet.onnx")
	if err := a.sameNoise(t.Context(), c, half, edit("half_unet.onnx")); err != nil {
		t.Error(err)
	}
	err := a.sameNoise(t.Context(), c, wrong, edit("wrong_unet.onnx"))
	if err == nil || !strings.Contains(err.Error(), "different timesteps: the noise differs") {
		t.Errorf("got %v", err)
	}
	broken := writeFile(t, filepath.Join(t.TempDir(), "broken.onnx"), []byte("no graph"))
	if err := a.sameNoise(t.Context(), c, half, broken); !errors.Is(err, models.ErrUneditable) {
		t.Errorf("an edited graph that cannot be loaded: %v", err)
	}
	if err := a.sameNoise(t.Context(), c, broken, half); err == nil || errors.Is(err, models.ErrUneditable) {
		t.Errorf("a graph that cannot be loaded: %v", err)
	}
	c.Engine.Library = writeFile(t, filepath.Join(t.TempDir(), "lib.so"), []byte("no library"))
	if err := a.sameNoise(t.Context(), c, half, half); err == nil || !strings.Contains(err.Error(), "ONNX Runtime") {
		t.Errorf("without a library: %v", err)
	}
}

// TestWidthsOfDynamicAxes: what a graph leaves open is in the configurations
// beside it.
func TestWidthsOfDynamicAxes(t *testing.T) {
	for model, want := range map[string]map[string][]int64{
		"sdxl":     {"sample": {2, 4, 8, 8}, "encoder_hidden_states": {2, 77, 80}, "text_embeds": {2, 40}, "time_ids": {2, 6}},
		"pix2pix":  {"sample": {2, 8, 8, 8}},
		"inpaint9": {"sample": {2, 9, 8, 8}, "out_sample": {2, 4, 8, 8}},
		"lcm":      {"sample": {2, 4, 8, 8}, "timestep_cond": {2, 64}},
	} {
		w := readWidths(filepath.Join(testModels, model))
		for input, shape := range want {
			dims := make([]int64, len(shape))
			for i := range dims {
				dims[i] = onnxfile.Dynamic
			}
			got, err := compareShape(onnxfile.Value{Name: input, Dims: dims}, "timestep", w)
			if err != nil || !slices.Equal(got, shape) {
				t.Errorf("%s, %s: got %v, %v", model, input, got, err)
			}
		}
	}
	if _, err := compareShape(onnxfile.Value{Name: "time_ids", Dims: []int64{-1, -1}}, "timestep", readWidths(t.TempDir())); err == nil {
		t.Error("an unknown width passed")
	}
}
