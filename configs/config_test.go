package configs_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/job"
)

// write puts a file into a fresh folder and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, path string, environ ...string) (configs.Config, configs.Sources) {
	t.Helper()
	c, sources, err := configs.Load(path, environ)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c, sources
}

func TestReferenceHoldsTheDefaults(t *testing.T) {
	path := write(t, "worker.yaml", configs.Reference)
	c, sources := mustLoad(t, path)
	if diff := cmp.Diff(configs.Default(), c); diff != "" {
		t.Errorf("worker.yaml differs from Default() (-default +file):\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if !strings.HasPrefix(sources[name], path+":") {
			t.Errorf("worker.yaml leaves out %s", name)
		}
	}
}

func TestReferenceExplainsEveryKey(t *testing.T) {
	lines := strings.Split(configs.Reference, "\n")
	section := regexp.MustCompile(`^ *[a-z0-9_]+:$`)
	for i, line := range lines {
		text := strings.TrimSpace(line)
		if text == "" || strings.HasPrefix(text, "#") || section.MatchString(line) {
			continue
		}
		above := strings.TrimSpace(lines[i-1])
		inQueues := strings.HasPrefix(line, "  interactive:") || strings.HasPrefix(line, "  batch:")
		if !strings.HasPrefix(above, "# ") && !inQueues {
			t.Errorf("worker.yaml:%d: %s has no sentence above it", i+1, text)
		}
	}
}

func TestDefaultsAreTheFallback(t *testing.T) {
	for name, path := range map[string]string{
		"no file": "", "empty file": write(t, "c.yaml", ""), "empty sections": write(t, "c.yaml", "redis:\nlimits: {}\nlog: ~\n"),
	} {
		t.Run(name, func(t *testing.T) {
			c, sources := mustLoad(t, path)
			if diff := cmp.Diff(configs.Default(), c); diff != "" {
				t.Error(diff)
			}
			for key, source := range sources {
				if source != "default" {
					t.Errorf("%s comes from %s", key, source)
				}
			}
		})
	}
}

func TestDefaultLimitsAreTheContract(t *testing.T) {
	l := configs.Default().Limits
	got := job.Limits{
		Steps: l.Steps, Images: l.Images, Width: l.Width, Height: l.Height, Pixels: int64(l.Pixels), Prompt: l.PromptLength,
		InputBytes: int64(l.InputBytes), InputPixels: int64(l.InputPixels), InputSide: l.InputSide,
	}
	if diff := cmp.Diff(job.HardLimits(), got); diff != "" {
		t.Error(diff)
	}
}
