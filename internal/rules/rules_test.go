// Package rules_test holds the rules of ARCHITECTURE.md about who may import
// whom. The linter's depguard says the same while one writes; this test sees
// what is imported through others too.
package rules_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/imgus/worker"

// pkg is what `go list` tells about a package; tests are not among its imports.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string // direct
	Deps       []string // all
}

// room is the package's path inside the module.
func (p pkg) room() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// failpoints is for tests, but stands in the code that they strike: a call that
// does nothing in the program as it is shipped.
const failpoints = "internal/failpoint"

// testKit tells whether the package serves tests alone: storagetest and the
// like, and what is internal. A test kit may import more.
func (p pkg) testKit() bool {
	return strings.HasSuffix(p.ImportPath, "test") || strings.HasPrefix(p.room(), "internal/") && p.room() != failpoints
}

func TestRules(t *testing.T) {
	own, standard := list(t)
	t.Run("rooms", func(t *testing.T) { rooms(t, own) })
	t.Run("contracts need the standard library only", func(t *testing.T) { contracts(t, own, standard) })
	t.Run("only the program wires", func(t *testing.T) { wiring(t, own) })
	t.Run("remote does not bring local", func(t *testing.T) { remote(t, own) })
	t.Run("photos are decoded in the engine", func(t *testing.T) { decoding(t, own) })
	t.Run("libraries stay at home", func(t *testing.T) { libraries(t, own) })
	t.Run("test kits stay in tests", func(t *testing.T) { testKits(t, own) })
}

// list returns the module's own packages, and which of all are the standard
// library's.
func list(t *testing.T) (own []pkg, standard map[string]bool) {
	t.Helper()
	touch(t)
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", module+"/...")
	output, err := command.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	standard = map[string]bool{"C": true, "unsafe": true}
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return own, standard
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Standard {
			standard[p.ImportPath] = true
		}
		if strings.HasPrefix(p.ImportPath, module+"/") {
			own = append(own, p)
		}
	}
}

// touch reads every folder of the module, since go test caches a result until
// something changes that the test itself has read.
func touch(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && len(entry.Name()) > 2 && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// below tells whether name is the room or in it.
func below(name, room string) bool { return name == room || strings.HasPrefix(name, room+"/") }

// neighbours are all the rooms that a room may import.
var neighbours = map[string][]string{
	"job":                 {},
	"storage":             {"job"},
	"inference":           {"job"},
	"processor":           {"job", "storage", "inference", failpoints},
	"janitor":             {"job", "storage", "inference"},
	"privacy":             {"job", "storage", "inference"},
	"safety":              {"job", "storage", "inference"},
	"inference/noise":     {"job"},
	"inference/scheduler": {"job"},
	"inference/tokenizer": {"job"},
	"imaging":             {"job", "imaging/mark"},
	"imaging/mark":        {"job"},
	"models/onnxfile":     {"job"},
	failpoints:            {},
	auditor:               {},
}

func rooms(t *testing.T, own []pkg) {
	t.Helper()
	for _, p := range own {
		allowed, ruled := neighbours[p.room()]
		if !ruled {
			continue
		}
		for _, dep := range p.Deps {
			room, ours := strings.CutPrefix(dep, module+"/")
			if ours && !slices.Contains(allowed, room) {
				t.Errorf("%s imports %s, directly or through others; of our rooms it may import %q", p.room(), room, allowed)
			}
		}
	}
}

// The vocabulary and the contracts are for everyone, so they bring nothing.
func contracts(t *testing.T, own []pkg, standard map[string]bool) {
	t.Helper()
	for _, p := range own {
		if !slices.Contains([]string{"job", "storage", "inference"}, p.room()) {
			continue
		}
		for _, dep := range p.Imports {
			if !standard[dep] && dep != module+"/job" {
				t.Errorf("%s needs %s", p.room(), dep)
			}
		}
	}
}

func wiring(t *testing.T, own []pkg) {
	t.Helper()
	for _, p := range own {
		if p.testKit() || below(p.room(), "cmd/worker") {
			continue
		}
		for _, wired := range []string{"configs", "telemetry", "inference/local", "storage/s3", "models/demo"} {
			if slices.Contains(p.Imports, path.Join(module, wired)) {
				t.Errorf("%s imports %s: only cmd/worker may", p.room(), wired)
			}
		}
	}
}

// The parent process holds the credentials and loads no GPU library.
func remote(t *testing.T, own []pkg) {
	t.Helper()
	for _, p := range own {
		if !below(p.room(), "inference/remote") {
			continue
		}
		for _, dep := range p.Deps {
			if below(dep, module+"/inference/local") || below(dep, module+"/inference/onnx") {
				t.Errorf("%s needs %s", p.room(), dep)
			}
		}
	}
}

// Strangers' photos are decoded where there are neither credentials nor network:
// in the engine's process. The parent's rooms bring no decoder.
func decoding(t *testing.T, own []pkg) {
	t.Helper()
	for _, p := range own {
		engine := below(p.room(), "inference") && !below(p.room(), "inference/remote") || below(p.room(), "imaging")
		if engine || below(p.room(), "cmd") || p.testKit() {
			continue
		}
		for _, dep := range p.Deps {
			if dep == module+"/imaging" || strings.HasPrefix(dep, "image/") && dep != "image/color" || strings.HasPrefix(dep, "golang.org/x/image") {
				t.Errorf("%s needs %s", p.room(), dep)
			}
		}
	}
}

// homes names, for each library, the one room that uses it.
var homes = map[string]string{
	"github.com/hibiken/asynq":          "queue",
	"github.com/redis/go-redis":         "queue",
	"github.com/minio/minio-go":         "storage/s3",
	"github.com/prometheus":             "telemetry",
	"go.opentelemetry.io":               "telemetry",
	"github.com/yalue/onnxruntime_go":   "inference/onnx",
	"github.com/NVIDIA/go-nvml":         "inference/nvml",
	"github.com/disintegration/imaging": "imaging",
	"github.com/spf13/viper":            "configs",
}

// auditor must not share code with the worker, so it reads Redis and the bucket
// by itself.
const auditor = "chaos/auditor"

func libraries(t *testing.T, own []pkg) {
	t.Helper()
	for _, p := range own {
		if p.testKit() || p.room() == auditor {
			continue
		}
		for _, imported := range p.Imports {
			for library, home := range homes {
				if below(imported, library) && !below(p.room(), home) {
					t.Errorf("%s imports %s: only %s may", p.room(), imported, home)
				}
			}
		}
	}
}

func testKits(t *testing.T, own []pkg) {
	t.Helper()
	kits := map[string]bool{"testing": true}
	for _, p := range own {
		kits[p.ImportPath] = kits[p.ImportPath] || p.testKit()
	}
	for _, p := range own {
		for _, imported := range p.Imports {
			if kits[imported] && !p.testKit() {
				t.Errorf("%s imports %s, which is for tests", p.room(), imported)
			}
		}
	}
}
