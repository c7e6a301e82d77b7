package configs_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imgus/worker/configs"
)

func TestSizes(t *testing.T) {
	tests := map[string]configs.Size{
		"0": 0, "0GiB": 0, "1": 1, "4096": 4096, "7B": 7, "1kB": 1000, "1KB": 1000, "1KiB": 1024, "20MiB": 20 << 20, "8GB": 8e9, "8GiB": 8 << 30,
		"1.5GiB": 3 << 29, "0.5KiB": 512, "2TiB": 2 << 40,
	}
	for text, want := range tests {
		c, _ := mustLoad(t, "", "IMGUS_ENGINE_MEMORY_BUDGET="+text)
		if got := c.Engine.MemoryBudget; got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
	for _, text := range []string{"", "GiB", "-1", "-0.5GiB", "8 GiB", "8gib", "NaN", "Inf", "9223372036854775808", "8388608TiB", "1e30GiB"} {
		if _, _, err := configs.Load("", []string{"IMGUS_ENGINE_MEMORY_BUDGET=" + text}); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestSizeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := configs.Size(rapid.Int64Range(0, 1<<50).Draw(t, "size")) >> rapid.IntRange(0, 50).Draw(t, "right") << rapid.IntRange(0, 12).Draw(t, "left")
		size = min(size, 1<<50)
		c, _, err := configs.Load("", []string{"IMGUS_ENGINE_MEMORY_BUDGET=" + size.String()})
		if err != nil || c.Engine.MemoryBudget != size {
			t.Errorf("%d is written %s and read as %d: %v", size, size, c.Engine.MemoryBudget, err)
		}
	})
	if got := configs.Size(math.MaxInt64).String(); got != "9223372036854775807" {
		t.Errorf("got %s", got)
	}
}

func TestDurationsAreShownShort(t *testing.T) {
	for written, want := range map[string]string{"600s": "10m", "1h": "1h", "24h0m0s": "24h", "90s": "1m30s", "20s": "20s", "1h30m": "1h30m", "1500ms": "1.5s"} {
		c, sources := mustLoad(t, "", "IMGUS_JOB_TIMEOUT="+written)
		if got := setting(t, c, sources, "job.timeout").Value; got != want {
			t.Errorf("%s: shown as %s, want %s", written, got, want)
		}
		if again, err := time.ParseDuration(want); err != nil || again != c.Job.Timeout {
			t.Errorf("%s is not %s", want, c.Job.Timeout)
		}
	}
}

func TestDevicesAuto(t *testing.T) {
	for text, want := range map[string]bool{"auto": true, "cpu": false, "cpu,cuda:0": false} {
		if c, _ := mustLoad(t, "", "IMGUS_ENGINE_DEVICES="+text); c.Engine.Devices.Auto() != want {
			t.Errorf("%s: auto is %t", text, !want)
		}
	}
}
