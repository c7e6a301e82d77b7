package local

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/imgus/worker/inference"
)

// What an automatic budget leaves of a device's memory: a share of it, and in
// any case enough for CUDA's context, or for ONNX Runtime and photos.
const (
	reservedShare = 8
	reservedLeast = 512 << 20
)

// budget is how many bytes models and the work on jobs may take of a device,
// whose memory is as source says, and why; 0 is no bound.
func budget(configured int64, d inference.Device, source string) (int64, string) {
	switch {
	case configured > 0:
		return configured, "configured"
	case d.MemoryTotal == 0:
		return 0, "none: the device's memory is unknown"
	}
	reserve := min(max(d.MemoryTotal/reservedShare, reservedLeast), d.MemoryTotal/2)
	return d.MemoryTotal - reserve, fmt.Sprintf("automatic: %s %s, but for %s", gibibytes(d.MemoryTotal), source, gibibytes(reserve))
}

// Where the figure of a device's memory comes from.
const (
	ofMachine = "of the machine"
	ofGroup   = "of the control group"
	byDriver  = "of the GPU by its driver"
)

// hostMemory is how much memory this process may have, in bytes: the machine's,
// or less where a control group bounds it (Linux, cgroups(7)); 0 is unknown.
func hostMemory(root fs.FS) (total int64, source string) {
	total, source = machineMemory(root), ofMachine
	if total == 0 {
		return 0, source
	}
	for _, file := range limitFiles(root) {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && limit < total { // else it is "max", or no bound
			total, source = limit, ofGroup
		}
	}
	return total, source
}

// machineMemory reads /proc/meminfo.
func machineMemory(root fs.FS) int64 {
	file, err := root.Open("proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		value, found := strings.CutPrefix(lines.Text(), "MemTotal:")
		fields := strings.Fields(value)
		if !found || len(fields) == 0 {
			continue
		}
		if kilobytes, err := strconv.ParseInt(fields[0], 10, 64); err == nil && kilobytes < math.MaxInt64>>10 {
			return kilobytes << 10
		}
	}
	return 0
}

// limitFiles are where the bounds of this process's control group may stand, and
// of those around it.
func limitFiles(root fs.FS) []string {
	files := []string{
		"sys/fs/cgroup/memory.max",                   // version 2, the group of a container
		"sys/fs/cgroup/memory/memory.limit_in_bytes", // version 1
	}
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return files
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		for ok && group != "" && group != "." {
			files = append(files, path.Join("sys/fs/cgroup", group, "memory.max"))
			group = path.Dir(group)
		}
	}
	return files
}
