package models_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models"
)

// TestDocumentedRefusals: what docs/export.md says that import answers to broken
// folders is what it answers.
func TestDocumentedRefusals(t *testing.T) {
	page, err := os.ReadFile("../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	_, below, _ := strings.Cut(string(page), "\n## When import refuses\n")
	text, _, _ := strings.Cut(below, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1)

	const unet = "unet/model.onnx"
	field := func(n protowire.Number, b []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	custom := append([]byte{0x08, 8}, field(7, field(1, append(field(4, []byte("Op")), field(7, []byte("custom"))...)))...)
	failures := []func(dir string){
		func(dir string) { remove(t, dir, unet) },
		func(dir string) { write(t, graph("model.onnx_data"), dir, unet) },
		func(dir string) {
			large := append([]byte{0x08, 0xe8, 0x07, 0x10, 1, 0x70, 1}, field(13, append(field(1, []byte("location")), field(2, []byte("model.onnx_data"))...))...)
			write(t, append([]byte{0x08, 8}, field(7, field(5, large))...), dir, unet) // a weight of 1000 floats
			write(t, make([]byte, 1000), dir, "unet/model.onnx_data")
		},
		func(dir string) {
			remove(t, dir, unet)
			if err := os.Symlink("../../blobs/0123", filepath.Join(dir, unet)); err != nil {
				t.Fatal(err)
			}
		},
		func(dir string) { write(t, nil, dir, "pipeline.py") },
		func(dir string) {
			write(t, []byte(`{"_class_name": "StableDiffusion3Pipeline"}`), dir, "model_index.json")
		},
		func(dir string) { write(t, custom, dir, unet) },
	}
	told := map[string]bool{}
	expect := func(err error) {
		t.Helper()
		if err == nil {
			t.Fatal("it was imported")
		}
		for _, r := range rows {
			if strings.Contains(err.Error(), r[1]) {
				told[r[1]] = true
				return
			}
		}
		t.Errorf("the page has no row for: %v", err)
	}
	catalogue := models.New(filepath.Join(t.TempDir(), "models"))
	for _, fail := range failures {
		dir := copyModel(t, "sd1")
		fail(dir)
		_, err := catalogue.Import(t.Context(), dir, models.ImportOptions{})
		expect(err)
	}
	for range 2 {
		_, err = catalogue.Import(t.Context(), copyModel(t, "sd1"), models.ImportOptions{Name: "sd15"})
	}
	expect(err)
	// The others take an engine: the script tries them.
	script, err := os.ReadFile("../scripts/export-recipes.sh")
	if err != nil {
		t.Fatal(err)
	}
	tried := regexp.MustCompile(`(?m)^refused ".*" \S+ "(.*)"$`).FindAllStringSubmatch(string(script), -1)
	for _, r := range rows {
		if !told[r[1]] && !slices.ContainsFunc(tried, func(reason []string) bool { return strings.Contains(r[1], reason[1]) }) {
			t.Errorf("nothing tries %q", r[1])
		}
	}
	if len(told) != len(failures)+1 {
		t.Errorf("%d rows were tried: %v", len(told), told)
	}
}
