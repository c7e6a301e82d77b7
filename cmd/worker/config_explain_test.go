package main

import (
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func TestConfigExplain(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "worker.yaml"), []byte("queues: {batch: 1}\n"))
	p := newProgram(t, "IMGUS_CONFIG="+file, "IMGUS_JOB_TIMEOUT=5m", "IMGUS_REDIS_PASSWORD=hidden-secret")
	stdout, _ := p.must(0, "config", "show", "--explain", "--json")
	rows := map[string]explained{}
	for _, r := range lines[explained](t, stdout) {
		rows[r.Key] = r
	}
	for key, want := range map[string]string{
		"log.format": "json", "engine.devices": "cpu", "engine.memory_budget": "cpu ", "(slots)": "1", "(batch)": "at once",
	} {
		if r := rows[key]; !strings.Contains(r.Chosen, want) || r.Why == "" {
			t.Errorf("%s is %+v", key, r)
		}
	}
	if r := rows["job.timeout"]; r.Source != "IMGUS_JOB_TIMEOUT" || !r.Live || r.Chosen != "" {
		t.Errorf("job.timeout is %+v", r)
	}
	if n, err := strconv.Atoi(rows["engine.threads"].Chosen); err != nil || n < 1 || n > runtime.NumCPU() || rows["engine.threads"].Why == "" {
		t.Errorf("engine.threads is %+v", rows["engine.threads"])
	}
	if why := rows["engine.memory_budget"].Why; !strings.Contains(why, "of the machine") && !strings.Contains(why, "of the control group") {
		t.Errorf("the memory budget's reason is %q", why)
	}
	if r := rows["queues"]; r.Source != file+":1" || r.Live {
		t.Errorf("queues is %+v", r)
	}
	if strings.Contains(stdout, "hidden-secret") {
		t.Error("a secret is shown")
	}
	if text, _ := p.must(0, "config", "show", "--explain"); !strings.Contains(text, "COMES TO") {
		t.Error(text)
	}
	lost := newProgram(t, "IMGUS_ENGINE_LIBRARY=/nowhere.so")
	if text, _ := lost.must(0, "config", "show", "--explain"); !strings.Contains(text, "unknown: ") {
		t.Error(text)
	}
}
