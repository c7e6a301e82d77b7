package local

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// Threads is how many threads an operator on the CPU computes with, and why.
// Automatic is one for each core that this process may use. ONNX Runtime itself
// would count all of the machine's, also those that a container may not use.
func Threads(configured int) (int, string) {
	if configured > 0 {
		return configured, "configured"
	}
	return threads(os.DirFS("/"), runtime.NumCPU(), runtime.GOMAXPROCS(0))
}

// threads counts cores, of logical processors that this process may use; most is
// what Go found of a control group's quota.
func threads(root fs.FS, processors, most int) (int, string) {
	n := cores(root)
	if n == 0 {
		n = processors
	}
	if most < n {
		return most, fmt.Sprintf("what a control group's quota, or GOMAXPROCS, allows of %d cores", n)
	}
	return n, "one for each core that this process may use"
}

// cores counts those that this process may use: logical processors that share
// one count once. 0 is unknown.
func cores(root fs.FS) int {
	file, err := root.Open("proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close()
	all := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		list, found := strings.CutPrefix(lines.Text(), "Cpus_allowed_list:")
		if !found {
			continue
		}
		for span := range strings.SplitSeq(strings.TrimSpace(list), ",") {
			from, to, isRange := strings.Cut(span, "-")
			if !isRange {
				to = from
			}
			first, err1 := strconv.Atoi(from)
			last, err2 := strconv.Atoi(to)
			if err1 != nil || err2 != nil || last >= 1<<16 {
				return 0
			}
			for cpu := first; cpu <= last; cpu++ {
				name := fmt.Sprint("cpu", cpu)
				core, err := fs.ReadFile(root, path.Join("sys/devices/system/cpu", name, "topology/thread_siblings_list"))
				if err != nil {
					core = []byte(name)
				}
				all[string(core)] = true
			}
		}
	}
	return len(all)
}
