package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/configs"
)

// The reference says of each key whether a running worker takes a change of it.
func TestLiveKeysAreDocumented(t *testing.T) {
	var path [4]string // of the sections, by their depth
	comment, documented := "", map[string]bool{}
	for line := range strings.Lines(configs.Reference) {
		text := strings.TrimSpace(line)
		name, value, isKey := strings.Cut(text, ":")
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		switch {
		case strings.HasPrefix(text, "#"):
			comment += text
		case isKey:
			path[depth] = name
			if value != "" {
				documented[strings.Join(path[:depth+1], ".")] = strings.Contains(comment, "[live]")
			}
			comment = ""
		}
	}
	found := 0
	for key, live := range documented {
		if live != configs.Live(key) {
			t.Errorf("%s: documented as live: %t", key, live)
		}
		if live {
			found++
		}
	}
	if found < 11 {
		t.Errorf("only %d live keys are documented", found)
	}
}

// Of a file that cannot be read that alone is said.
func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.yaml")
	if err := os.WriteFile(text, []byte("no: [yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, says := range map[string]string{filepath.Join(dir, "gone.yaml"): "no such file", text: "is not YAML"} {
		_, _, err := configs.Load(file, nil, configs.NeedStorage)
		problems, ok := errors.AsType[*configs.Problems](err)
		if !ok || len(problems.List) != 1 || !strings.Contains(problems.List[0].Message, says) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// A variable that wins over the file is said to.
func TestShadowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "worker.yaml")
	if err := os.WriteFile(file, []byte("log: {level: debug}\njob: {timeout: 1m}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sources, err := configs.Load(file, []string{"IMGUS_LOG_LEVEL=warn", "IMGUS_LOG_FORMAT=json"})
	if err != nil {
		t.Fatal(err)
	}
	got := sources.Shadowed()
	if len(got) != 1 || !strings.HasPrefix(got[0], "log.level from IMGUS_LOG_LEVEL over ") || !strings.HasSuffix(got[0], "worker.yaml:1") {
		t.Errorf("%q", got)
	}
	if sources["log.format"] != "IMGUS_LOG_FORMAT" || strings.Contains(sources["job.timeout"], "over") {
		t.Error(sources)
	}
}

func TestChanged(t *testing.T) {
	before := configs.Default()
	after := configs.Default()
	after.Log.Level, after.Job.Timeout, after.Queues = "debug", time.Hour, map[string]int{"one": 1}
	if got := configs.Changed(before, after); !slices.Equal(got, []string{"log.level", "queues", "job.timeout"}) {
		t.Errorf("changed: %v", got)
	}
	if got := configs.Changed(before, configs.Default()); len(got) > 0 {
		t.Errorf("changed: %v", got)
	}
}
