package local_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/imgus/worker/inference/local"
)

func TestThreads(t *testing.T) {
	if n, why := local.Threads(3); n != 3 || why != "configured" {
		t.Errorf("got %d, %s", n, why)
	}
	if n, _ := local.Threads(0); n < 1 || n > runtime.NumCPU() {
		t.Errorf("got %d of %d", n, runtime.NumCPU())
	}
	// Four cores of two threads each: 0 and 4 share one, 1 and 5, and so on.
	machine := func(allowed string) fstest.MapFS {
		root := fstest.MapFS{"proc/self/status": {Data: []byte("Name:\tworker\nCpus_allowed:\tff\nCpus_allowed_list:\t" + allowed + "\nMems_allowed:\t1\n")}}
		for cpu := range 8 {
			root[fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu)] = &fstest.MapFile{Data: fmt.Appendf(nil, "%d,%d\n", cpu%4, cpu%4+4)}
		}
		return root
	}
	for name, tt := range map[string]struct {
		root       fstest.MapFS
		processors int
		most, want int
		says       string
	}{
		"the machine's":       {machine("0-7"), 8, 8, 4, "each core"},
		"two cores of it":     {machine("0-1,4-5"), 4, 4, 2, "each core"},
		"one, by one thread":  {machine("6"), 1, 1, 1, "each core"},
		"a quota":             {machine("0-7"), 8, 3, 3, "quota, or GOMAXPROCS, allows of 4 cores"},
		"nothing is known":    {nil, 6, 6, 6, "each core"},
		"nonsense":            {machine("x-7"), 6, 6, 6, "each core"},
		"nothing of the core": {fstest.MapFS{"proc/self/status": {Data: []byte("Cpus_allowed_list:\t0,2-3\n")}}, 3, 3, 3, "each core"},
	} {
		n, why := local.CountThreads(tt.root, tt.processors, tt.most)
		if n != tt.want || !strings.Contains(why, tt.says) {
			t.Errorf("%s: got %d, %s; want %d", name, n, why, tt.want)
		}
	}
}
