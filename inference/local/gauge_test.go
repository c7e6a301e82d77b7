package local_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/nvml"
	"github.com/imgus/worker/job"
)

func TestBudget(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		configured, total, want int64
		says                    string
	}{
		{3 * gib, 80 * gib, 3 * gib, "configured"},
		{3 * gib, 0, 3 * gib, "configured"},
		{0, 0, 0, "unknown"},
		{0, 80 * gib, 70 * gib, "automatic: 80.0 GiB of the machine, but for 10.0 GiB"},
		{0, 2 * gib, 3 * gib / 2, "512.0 MiB"},
		{0, 512 << 20, 256 << 20, "256.0 MiB"}, // never more than a half is kept
	} {
		got, why := local.Budget(tt.configured, inference.Device{MemoryTotal: tt.total}, "of the machine")
		if got != tt.want || !strings.Contains(why, tt.says) {
			t.Errorf("%d of %d: got %d, %s", tt.configured, tt.total, got, why)
		}
	}
}

func TestHostMemory(t *testing.T) {
	const meminfo = "MemTotal:       16384 kB\nMemFree:         1 kB\n"
	for name, tt := range map[string]struct {
		files map[string]string
		want  int64
		from  string
	}{
		"the machine's":              {map[string]string{"proc/meminfo": meminfo}, 16 << 20, "machine"},
		"no limit":                   {map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "max\n"}, 16 << 20, "machine"},
		"a container's":              {map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "4194304\n"}, 4 << 20, "control group"},
		"of the older kind":          {map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": "2097152\n"}, 2 << 20, "control group"},
		"no limit of the older kind": {map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 16 << 20, "machine"},
		"of a group around it": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/worker.service\n",
			"sys/fs/cgroup/system.slice/worker.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/memory.max": "1048576\n",
		}, 1 << 20, "control group"},
		"nonsense": {map[string]string{"proc/meminfo": "MemTotal:\nMemFree: 1 kB\nMemTotal: x kB\n", "sys/fs/cgroup/memory.max": "1"}, 0, "machine"},
		"nothing":  {nil, 0, "machine"},
	} {
		root := fstest.MapFS{}
		for file, text := range tt.files {
			root[file] = &fstest.MapFile{Data: []byte(text)}
		}
		if got, from := local.HostMemory(root); got != tt.want || from != "of the "+tt.from {
			t.Errorf("%s: got %d %s, want %d of the %s", name, got, from, tt.want, tt.from)
		}
	}
}

// card is a GPU that tells of itself.
type card struct {
	facts nvml.Facts
	lost  bool
	own   int64
}

func (c *card) Facts() (nvml.Facts, error) {
	if c.lost {
		return nvml.Facts{}, errors.New("GPU is lost")
	}
	return c.facts, nil
}

func (c *card) Own() (int64, bool) { return c.own, c.own > 0 }

// A GPU's budget is of its own memory, and what working takes is what this
// process takes of it.
func TestGPU(t *testing.T) {
	c := &card{facts: nvml.Facts{Name: "A card", UUID: "GPU-1", Total: 800 * mib, Used: 10 * mib, Utilisation: new(7), Temperature: new(60)}}
	b := benchOn(t, local.Options{Devices: []string{"cuda:0"}}, false, c)
	b.work = func(_ string, _ diffusion.Task, stage job.Stage) (int64, error) {
		if stage == job.StageDenoise && c.own < 300*mib {
			c.own += 100 * mib
		}
		return 0, nil
	}
	b.must(t, "sd1")
	s, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := inference.Device{
		Device: "cuda:0", Name: "A card", UUID: "GPU-1", MemoryTotal: 800 * mib, MemoryUsed: 10 * mib,
		MemoryBudget: 400 * mib, MemoryBudgetReason: "automatic: 800.0 MiB of the GPU by its driver, but for 400.0 MiB",
		Utilisation: new(7), Temperature: new(60), Loads: 1, ModelMemory: s.MemoryUsed,
	}
	if diff := cmp.Diff([]inference.Device{want}, s.Devices); diff != "" {
		t.Error(diff)
	}
	if s.MemoryBudget != 400*mib || s.MemoryUsed < 100*mib {
		t.Errorf("budget %d, used %d", s.MemoryBudget, s.MemoryUsed)
	}
	c.lost = true
	if s, err := b.Status(t.Context()); err != nil || s.Devices[0].MemoryTotal != 0 || s.Devices[0].MemoryBudget != 400*mib {
		t.Errorf("of a GPU that says nothing: %+v, %v", s, err)
	}
}
