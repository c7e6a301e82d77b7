package remote

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is this program even where its file has been replaced by an upgrade.
func self() (string, error) { return "/proc/self/exe", nil }

// attributes tie the child's life to ours, and keep the terminal's Ctrl-C from
// it: the parent decides when a job in hand ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// inheritNothing marks every file as not to be inherited. Go marks its own;
// what a C library opened, or what this process was started with, may not be.
func inheritNothing() {
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // Linux before 5.11 has none
}

// residentMemory is what a process has in memory, in bytes.
func residentMemory(pid int) (int64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status")) //nolint:gosec // G703: a number is no path
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmRSS:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0, nil // it ends at this moment
	}
	kilobytes, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read VmRSS: %w", err)
	}
	return kilobytes << 10, nil
}
