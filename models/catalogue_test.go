package models_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/demo"
)

const testModels = "../testdata/models"

func TestFamilies(t *testing.T) {
	entries, err := models.New(testModels).List()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]models.Family{}
	for _, e := range entries {
		if e.Err != nil {
			t.Errorf("%s: %v", e.Name, e.Err)
			continue
		}
		got[e.Name] = e.Model.Manifest.Family
	}
	want := map[string]models.Family{
		"sd1": models.SD1, "sd2v": models.SD2, "sdxl": models.SDXL, "turbo": models.Turbo, "lcm": models.LCM,
		"inpaint9": models.Inpaint, "pix2pix": models.Pix2Pix,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func demoModel(t *testing.T) *models.Model {
	t.Helper()
	m, err := models.OpenFS(demo.Files())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDemoModel(t *testing.T) {
	m := demoModel(t)
	if m.Manifest.Name != demo.Name || *m.Defaults.Steps != 20 || *m.Defaults.GuidanceScale != 3 || *m.Defaults.Strength != 0.8 {
		t.Errorf("the manifest and the family's defaults give %+v", m)
	}
	digest, err := m.Digest()
	if err != nil || !strings.HasPrefix(digest, "sha256:") || len(digest) != 71 {
		t.Errorf("digest %q, %v", digest, err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "mine"), demo.Files()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := models.New(dir, demoModel(t))
	m, err := c.Find("demo")
	if err != nil || m.Dir == "" {
		t.Errorf("the folder does not hide the embedded model: %v", err)
	}
	if _, err := c.Find("nothing"); !errors.Is(err, models.ErrUnknown) || !strings.Contains(err.Error(), "there are demo") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Find("broken"); err == nil || errors.Is(err, models.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "mine")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "demo"), 0o700); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Find("demo"); err != nil || m.Dir != "" {
		t.Errorf("a folder that is no model hides the embedded one: %v", err)
	}
	if m, err := models.New(filepath.Join(dir, "absent"), demoModel(t)).Find("demo"); err != nil || m.Dir != "" {
		t.Errorf("got %v", err)
	}
}

func TestDigestIsOfEveryFile(t *testing.T) {
	files := fstest.MapFS{
		"model.yaml":       {Data: []byte("name: m\nfamily: sd1\n")},
		"b":                {Data: []byte("two")},
		"unet/model.onnx":  {Data: []byte("one")},
		"scheduler/config": {},
	}
	digest := func() string {
		m, err := models.OpenFS(files)
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	// printf of the sorted lines "<sha256>  <path>" through sha256sum.
	const want = "sha256:3c168a2f1991eb9cd01a32b75185e75c9931ee2f72a63e4f26c0ef63a063abb8"
	if got := digest(); got != want {
		t.Errorf("got %s", got)
	}
	files["model.yaml"] = &fstest.MapFile{Data: []byte("name: other\nfamily: sd1\n")}
	if got := digest(); got != want {
		t.Error("the manifest counts")
	}
	files["b"] = &fstest.MapFile{Data: []byte("tw0")}
	if got := digest(); got == want {
		t.Error("a changed byte does not count")
	}
}

func TestManifests(t *testing.T) {
	for name, tt := range map[string]struct{ yaml, want string }{
		"unknown field": {"name: m\nfamily: sd1\ncolour: red\n", "colour"},
		"no name":       {"family: sd1\n", "name: required"},
		"family":        {"name: m\nfamily: sd9\n", "family: must be one of"},
		"digest":        {"name: m\nfamily: sd1\nfiles: {a: 123}\n", `"a" needs`},
		"path":          {"name: m\nfamily: sd1\nfiles: {../a: " + strings.Repeat("0", 64) + "}\n", `"../a" needs`},
		"scheduler":     {"name: m\nfamily: sd1\ndefaults: {scheduler: magic}\n", "scheduler: must be"},
		"not YAML":      {"\t", "model.yaml"},
	} {
		_, err := models.OpenFS(fstest.MapFS{models.ManifestName: {Data: []byte(tt.yaml)}})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	data, err := fs.ReadFile(demo.Files(), models.ManifestName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := models.OpenFS(fstest.MapFS{models.ManifestName: {Data: data}})
		if err == nil && m.Manifest.Name == "" {
			t.Error("a manifest without a name")
		}
	})
}
