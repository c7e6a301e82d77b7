package remote_test

import (
	"encoding/json"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/imgus/worker/inference/remote"
)

// forgetParent undoes what has the kernel end this process with its parent.
func forgetParent() { _ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) }

func TestChildHasNothingOfOurs(t *testing.T) {
	// A file that a C library opened without O_CLOEXEC.
	foreign, err := unix.Open("/etc/hostname", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(foreign)
	pool := open(t, func(o *remote.Options) {
		o.Devices = []string{"cuda:1"}
		o.Environ = []string{
			"IMGUS_REDIS_PASSWORD=secret", "AWS_SECRET_ACCESS_KEY=secret", "PATH=/bin", "HOME=/home/x", "LD_LIBRARY_PATH=/opt/lib",
			"CUDA_VISIBLE_DEVICES=3, 5", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "LD_PRELOAD=x",
		}
	})
	var a about
	look := func() {
		a = about{}
		if err := json.Unmarshal([]byte(does(t, pool, "about")), &a); err != nil {
			t.Fatal(err)
		}
	}
	look()
	slices.Sort(a.Environ)
	want := []string{"CUDA_CACHE_PATH=/home/x/.nv/ComputeCache", "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=5", "LD_LIBRARY_PATH=/opt/lib", "XDG_CACHE_HOME=/home/x/.cache"}
	if !slices.Equal(a.Environ, want) {
		t.Errorf("environment: %q", a.Environ)
	}
	if !slices.Equal(a.Args[1:], []string{"engine", "--device", "cuda:1"}) {
		t.Errorf("arguments: %q", a.Args)
	}
	// 0 is the configuration, 1 and 2 the log, 3 the control, 4 and more what
	// Go opens, and the connection of this job.
	expected := regexp.MustCompile(`^([012] pipe:|3 socket:|\d+ (socket:|anon_inode:\[event|/sys/fs/cgroup/|/proc/\d+/fd$))`)
	for _, f := range a.Files {
		if !expected.MatchString(f) {
			t.Errorf("has file %s", f)
		}
	}
	// The connection of an earlier request may take a moment to be closed.
	eventually(t, "it has two sockets", func() bool {
		look()
		return strings.Count(strings.Join(a.Files, " "), "socket:") == 2
	})
	if a.Core != 0 {
		t.Error("it may dump core")
	}
}

func TestProcessorChildSeesNoGPU(t *testing.T) {
	pool := open(t, func(o *remote.Options) { o.Environ = []string{"CUDA_VISIBLE_DEVICES=0,1", "XDG_RUNTIME_DIR=/x"} })
	if got := does(t, pool, "about"); !strings.Contains(got, `["CUDA_VISIBLE_DEVICES="]`) {
		t.Error(got)
	}
}

func TestChildHasNoNetwork(t *testing.T) {
	pool := open(t, nil)
	if d := pool.Health()[0]; d.Confined != "seccomp" {
		t.Fatalf("%+v", d)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, network := range []string{"tcp", "udp"} {
		if got := does(t, pool, "dial "+network+" "+listener.Addr().String()); !strings.Contains(got, "permission denied") {
			t.Errorf("%s: %s", network, got)
		}
	}
	if got := does(t, pool, "dial unix /nowhere"); !strings.Contains(got, "no such file") {
		t.Errorf("unix: %s", got)
	}
	if got := does(t, pool, "exec"); !strings.Contains(got, "permission denied") {
		t.Errorf("exec: %s", got)
	}
}

// Files, sockets and pipes of this process do not grow with what children do.
func TestNoFileLeaks(t *testing.T) {
	pool := open(t, nil)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	round := func() {
		does(t, pool, "echo")
		_, _ = pool.Generate(t.Context(), ask("signal 9"))
		does(t, pool, "echo")
	}
	round()
	before := count()
	for range 10 {
		round()
	}
	if after := count(); after > before {
		t.Errorf("%d files became %d", before, after)
	}
}
