package main

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	for _, isolate := range []string{"true", "false"} {
		p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_ENGINE_ISOLATE="+isolate)
		stdout, _ := p.must(0, "bench", "sd1@64x64", "sd1@64x64x2", "--steps", "2", "--runs", "2", "--json")
		rows := lines[measured](t, stdout)
		if len(rows) != 2 {
			t.Fatalf("rows are %+v", rows)
		}
		for i, m := range rows {
			if m.Images != i+1 || m.Steps != 2 || m.Width != 64 || m.Runs != 2 || m.Device != "cpu" || m.Median <= 0 || m.Least > m.Median || m.Median > m.Most || m.ImagesPerMinute <= 0 {
				t.Errorf("row is %+v", m)
			}
		}
		earlier := writeFile(t, filepath.Join(t.TempDir(), "earlier.jsonl"), []byte(stdout))
		table, _ := p.must(0, "bench", "sd1@64x64", "--steps", "2", "--runs", "1", "--compare", earlier)
		if !strings.Contains(table, "sd1@64x64") || !strings.Contains(table, "change") || !strings.Contains(table, "%") {
			t.Error(table)
		}
	}
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+testModels)
	p.must(2, "bench", "--runs", "0")
	p.must(2, "bench", "sd1@64")
	p.must(2, "bench", "--compare", "/nowhere")
	p.must(1, "bench", "nothing")
}

// TestBenchCompare: only what measured the same is compared, and all else is
// named.
func TestBenchCompare(t *testing.T) {
	p := newProgram(t, "IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_ENGINE_ISOLATE=false")
	args := []string{"bench", "sd1@64x64", "--steps", "2", "--runs", "1"}
	stdout, _ := p.must(0, append(args, "--json")...)
	row := lines[measured](t, stdout)[0]
	earlier := func(change func(*measured)) string {
		old := row
		change(&old)
		data, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, filepath.Join(t.TempDir(), "earlier.jsonl"), data)
	}
	for why, change := range map[string]func(*measured){
		"steps 2, earlier 3":                       func(m *measured) { m.Steps = 3 },
		"scheduler " + row.Scheduler:               func(m *measured) { m.Scheduler = "none" },
		"device cpu, earlier cuda:0":               func(m *measured) { m.Device = "cuda:0" },
		"devices 1, earlier 2":                     func(m *measured) { m.Devices = 2 },
		"provider CPUExecutionProvider":            func(m *measured) { m.Provider = "CUDAExecutionProvider" },
		"the earlier run has no such case":         func(m *measured) { m.Case = "sd1@64x64x1" },
		"sd1@64x64x1: only the earlier run has it": func(m *measured) { m.Case = "sd1@64x64x1" },
	} {
		table, notes := p.must(0, append(args, "--compare", earlier(change))...)
		if strings.Contains(table, "change") || !strings.Contains(notes, "not compared: sd1@64x64") || !strings.Contains(notes, why) {
			t.Errorf("want %s\n%s%s", why, table, notes)
		}
	}
	stdout, _ = p.must(0, append(args, "--json", "--compare", earlier(func(m *measured) { m.Steps = 3 }))...)
	if got := lines[measured](t, stdout)[0]; got.Change != nil || got.NotCompared != "steps 2, earlier 3" {
		t.Errorf("row is %+v", got)
	}
	stdout, notes := p.must(0, append(args, "--json", "--compare", earlier(func(m *measured) { m.Median, m.Load = 1, 0 }))...)
	got := lines[measured](t, stdout)[0]
	if got.Change == nil || got.Change.Median == nil || got.Change.Load != nil || got.NotCompared != "" || notes != "" {
		t.Fatalf("row is %+v, notes are %s", got, notes)
	}
	if want := 100 * (got.Median - 1); math.Abs(*got.Change.Median-want) > 1e-6*want {
		t.Errorf("%g ms after 1 ms are %g %% more", got.Median, *got.Change.Median)
	}
	p.must(2, "bench", "--compare", writeFile(t, filepath.Join(t.TempDir(), "empty.jsonl"), nil))
}
