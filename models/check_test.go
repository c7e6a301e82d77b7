package models_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models"
)

func TestMain(m *testing.M) {
	cache, err := os.MkdirTemp("", "models")
	if err != nil {
		panic(err)
	}
	_ = os.Setenv("XDG_CACHE_HOME", cache) // the user's own stays as it is
	m.Run()
	_ = os.RemoveAll(cache)
}

// copyModel copies one of the tests' models into a folder of its own.
func copyModel(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testModels, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, data []byte, parts ...string) {
	t.Helper()
	name := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// describe gives the model a manifest, so that its family need not be found.
func describe(t testing.TB, dir, family string) {
	t.Helper()
	write(t, []byte("name: m\nfamily: "+family+"\n"), dir, "model.yaml")
}

func openModel(t testing.TB, dir string) *models.Model {
	t.Helper()
	m, err := models.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheckAcceptsTheTestsModels(t *testing.T) {
	entries, err := models.New(testModels, demoModel(t)).List()
	if err != nil || len(entries) < 8 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		if err := errors.Join(e.Err); err != nil {
			t.Fatal(err)
		}
		if err := e.Model.Check(); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

// graph is an ONNX file with one weight at a location.
func graph(location string) []byte {
	field := func(n protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	entry := append(field(1, []byte("location")), field(2, []byte(location))...)
	tensor := append([]byte{0x08, 4, 0x10, 1, 0x70, 1}, field(13, entry)...) // dims [4], float, external
	return append(append([]byte{0x08, 8}, field(7, field(5, tensor))...), field(8, []byte{0x10, 17})...)
}

func TestCheckRefuses(t *testing.T) {
	const unet = "unet/model.onnx"
	link := func(target string, parts ...string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			name := filepath.Join(append([]string{dir}, parts...)...)
			_ = os.Remove(name)
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	put := func(data string, name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { write(t, []byte(data), dir, filepath.FromSlash(name)) }
	}
	tests := []struct {
		name   string
		change func(t *testing.T, dir string)
		says   []string // the file and the reason
	}{
		{"link to a file outside", link("/etc/passwd", "unet", "weights"), []string{"unet/weights", "link that leaves"}},
		{"link out of the folder and back", link("../../sd1/unet/config.json", "unet", "other.json"), []string{"unet/other.json", "link that leaves"}},
		{"link to the process's memory", link("/proc/self/mem", "unet", "weights"), []string{"unet/weights", "link that leaves"}},
		{"the graph itself a link outside", link("/dev/zero", "unet", "model.onnx"), []string{unet, "link that leaves"}},
		{"link to a folder", link("unet", "unet2"), []string{"unet2", "link to a folder"}},
		{"link to itself", link("loop", "loop"), []string{"loop", "link that leaves"}},
		{"pipe", func(t *testing.T, dir string) {
			if err := unix.Mkfifo(filepath.Join(dir, "unet", "weights"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"unet/weights", "a pipe"}},
		{"socket", func(t *testing.T, dir string) {
			t.Chdir(dir) // names of sockets are short
			l, err := net.Listen("unix", "s")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, []string{`"s"`, "a socket"}},
		{"library", put("x", "libops.so"), []string{"libops.so", "no code"}},
		{"library of a version", put("x", "unet/libops.so.1.2"), []string{"unet/libops.so.1.2", "no code"}},
		{"Windows library", put("x", "OPS.DLL"), []string{"OPS.DLL", "no code"}},
		{"Python", put("import os", "pipeline.py"), []string{"pipeline.py", "no code"}},
		{"program by another name", put("\x7fELF\x02\x01\x01", "unet/weights.bin"), []string{"unet/weights.bin", "like a program"}},
		{"script by another name", put("#!/bin/sh\n", "README"), []string{"README", "like a program"}},
		{"Windows program by another name", put("MZ"+strings.Repeat("\x00", 58)+"\x40\x00\x00\x00PE\x00\x00", "weights.bin"), []string{"weights.bin", "like a program"}},
		{"line break in a name", put("x", "a\nb"), []string{`a\nb`, "characters"}},
		{"backslash in a name", put("x", `a\b`), []string{`a\\b`, "characters"}},
		{"deep folders", put("x", "1/2/3/4/5/6/7/8/x"), []string{"nested"}},
		{"many files", func(t *testing.T, dir string) {
			for i := range 1001 {
				write(t, nil, dir, "many", fmt.Sprint(i))
			}
		}, []string{"many", "1000"}},
		{"many graphs", func(t *testing.T, dir string) {
			for i := range 33 {
				write(t, nil, dir, "many", fmt.Sprint(i, ".onnx"))
			}
		}, []string{"32 ONNX files"}},
		{"sparse file of 300 GiB", func(t *testing.T, dir string) {
			write(t, nil, dir, "unet", "weights")
			if err := os.Truncate(filepath.Join(dir, "unet", "weights"), 300<<30); err != nil {
				t.Fatal(err)
			}
		}, []string{"unet/weights", "256 GiB"}},
		{"graph over 2 GiB", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "unet", "model.onnx"), 3<<30); err != nil {
				t.Fatal(err)
			}
		}, []string{unet, "external data"}},
		{"no unet", func(t *testing.T, dir string) { remove(t, dir, unet) }, []string{unet, "missing"}},
		{"no text encoder", func(t *testing.T, dir string) { remove(t, dir, "text_encoder/model.onnx") }, []string{"text_encoder/model.onnx", "missing"}},
		{"no vocabulary", func(t *testing.T, dir string) { remove(t, dir, "tokenizer/vocab.json") }, []string{"tokenizer/vocab.json", "missing"}},
		{"no decoder", func(t *testing.T, dir string) { remove(t, dir, "vae_decoder/model.onnx") }, []string{"vae_decoder/model.onnx", "missing"}},
		{"no scheduler", func(t *testing.T, dir string) { remove(t, dir, "scheduler/scheduler_config.json") }, []string{"scheduler/scheduler_config.json", "missing"}},
		{"inpainting without an encoder", func(t *testing.T, dir string) {
			describe(t, dir, "inpaint")
			remove(t, dir, "vae_encoder/model.onnx")
		}, []string{"vae_encoder/model.onnx", "missing"}},
		{"second encoder without a tokenizer", func(t *testing.T, dir string) { describe(t, dir, "sdxl") }, []string{"text_encoder_2/model.onnx", "missing"}},
		{"large JSON", put(`"`+strings.Repeat("x", 2<<20)+`"`, "unet/config.json"), []string{"unet/config.json", "limit"}},
		{"large vocabulary", put(`"`+strings.Repeat("x", 9<<20)+`"`, "tokenizer/vocab.json"), []string{"tokenizer/vocab.json", "limit"}},
		{"deep JSON", put(strings.Repeat("[", 9000)+strings.Repeat("]", 9000), "unet/config.json"), []string{"unet/config.json", "nested"}},
		{"broken JSON", put(`{"in_channels": `, "unet/config.json"), []string{"unet/config.json", "no valid JSON"}},
		{"weights outside", put(string(graph("../text_encoder/model.onnx")), unet), []string{unet, "no plain path"}},
		{"weights that are not there", put(string(graph("model.onnx_data")), unet), []string{unet, "no such file"}},
		{"weights beyond the file", func(t *testing.T, dir string) {
			write(t, make([]byte, 15), dir, "unet", "w")
			write(t, graph("w"), dir, "unet", "model.onnx")
		}, []string{unet, "beyond"}},
		{"a hidden graph", put(string(graph("/etc/passwd")), ".git/objects/x.onnx"), []string{".git/objects/x.onnx", "no plain path"}},
		{"cut graph", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "unet", "model.onnx"), 100_000); err != nil {
				t.Fatal(err)
			}
		}, []string{unet, "longer than"}},
		{"text for a graph", put("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", unet), []string{unet}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyModel(t, "sd1")
			describe(t, dir, "sd1")
			tt.change(t, dir)
			m := openModel(t, dir)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := m.Check()
			runtime.ReadMemStats(&after)
			if !errors.Is(err, models.ErrRefused) {
				t.Fatalf("got %v", err)
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v does not say %s", err, says)
				}
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
		t.Fatal(err)
	}
}

func TestCheckAccepts(t *testing.T) {
	dir := copyModel(t, "sd1")
	describe(t, dir, "sd1")
	write(t, make([]byte, 16), dir, "unet", "w")
	write(t, graph("w"), dir, "extra", "model.onnx")
	// Stores that address by content link files, softly or hard.
	for _, err := range []error{
		os.Symlink("../unet/w", filepath.Join(dir, "extra", "w")),
		os.Link(filepath.Join(dir, "unet", "w"), filepath.Join(dir, "unet", "w2")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m := openModel(t, dir)
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if _, err := m.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestManifestThatIsNoFile: opening a pipe would wait for ever.
func TestManifestThatIsNoFile(t *testing.T) {
	dir := copyModel(t, "sd1")
	if err := unix.Mkfifo(filepath.Join(dir, "model.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := models.Open(dir); !errors.Is(err, models.ErrRefused) {
		t.Errorf("got %v", err)
	}
	remove(t, dir, "model.yaml")
	write(t, bytes.Repeat([]byte("#"), 2<<20), dir, "model.yaml")
	if _, err := models.Open(dir); !errors.Is(err, models.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
