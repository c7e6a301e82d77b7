package remote

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Harden keeps what is in this process's memory, photos and prompts, from being
// dumped to disk or read by other processes of the same user. The limit is for
// cores that the kernel writes; those that it pipes to a program (core(5)) only
// the other holds back.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// confine takes the network away from this process for good, and what else a
// hijacked engine would want: to run programs, and to look into its parent. It
// returns what does so.
//
// It is seccomp rather than a network namespace, which would need a user
// namespace: many machines forbid these, and drivers of GPUs misbehave in them.
func confine() (string, error) {
	filter, err := seccompFilter()
	if err != nil {
		return "", err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return "", fmt.Errorf("confine engine: no_new_privs: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]} //nolint:gosec // a dozen instructions
	// TSYNC: all threads of the process, those of C libraries too.
	failed, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))) //nolint:gosec // the call takes a pointer
	runtime.KeepAlive(filter)
	switch {
	case errno != 0:
		return "", fmt.Errorf("confine engine: seccomp: %w", os.NewSyscallError("seccomp", errno))
	case failed != 0:
		return "", errors.New("confine engine: seccomp: a thread of the process has other filters")
	}
	return "seccomp", nil
}

// architecture is the kernel's name for what this program is compiled for.
var architecture = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

// forbidden are the system calls that an engine never needs. io_uring would
// open sockets past the filter.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_IO_URING_SETUP, unix.SYS_PTRACE,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD,
}

// Offsets in struct seccomp_data (linux/seccomp.h); both architectures are
// little endian.
const (
	dataNumber   = 0
	dataArch     = 4
	dataArgument = 16
)

// x32 is the bit of system calls of amd64's third ABI, which have other
// numbers.
const x32 = 0x40000000

// seccompFilter allows all but the forbidden calls, and of sockets only Unix
// ones: drivers speak to their daemons with them.
func seccompFilter() ([]unix.SockFilter, error) {
	if architecture == 0 {
		return nil, fmt.Errorf("confine engine: no filter for %s", runtime.GOARCH)
	}
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	verdict := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	deny := verdict(unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES))
	allow := verdict(unix.SECCOMP_RET_ALLOW)

	filter := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, architecture, 1, 0),
		deny,
		load(dataNumber),
		jump(unix.BPF_JGE, x32, 0, 1),
		deny,
	}
	for _, number := range forbidden {
		filter = append(filter, jump(unix.BPF_JEQ, number, 0, 1), deny)
	}
	return append(filter,
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 1, 0),
		allow,
		load(dataArgument),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1),
		allow,
		deny,
	), nil
}
