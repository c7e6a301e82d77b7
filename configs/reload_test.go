package configs_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/configs"
)

// The reference says of each key whether a running worker takes a change of it.
func TestLiveKeysAreDocumented(t *testing.T) {
	section, comment := "", ""
	documented := map[string]bool{}
	for line := range strings.Lines(configs.Reference) {
		text := strings.TrimSpace(line)
		name, _, isKey := strings.Cut(text, ":")
		switch {
		case strings.HasPrefix(text, "#"):
			comment += text
		case isKey && !strings.HasPrefix(line, " "):
			section, comment = name, ""
		case isKey:
			documented[section+"."+name] = strings.Contains(comment, "[live]")
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
	if found < 5 {
		t.Errorf("only %d live keys are documented", found)
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
