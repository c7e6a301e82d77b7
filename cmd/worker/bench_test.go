package main

import (
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
