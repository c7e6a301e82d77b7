package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/imgus/worker/inference/remote"
)

// parent is a process that has a child do what the words say, tells the
// child's process id, and stays.
func parent(words string) int {
	pool, err := remote.Open(remote.Options{Devices: []string{"cpu"}, Program: os.Args[0], Args: []string{"engine"}, Config: stub{}})
	if err == nil {
		_, err = pool.Generate(context.Background(), ask(words))
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, pool.Health()[0].PID)
	select {}
}

// However the parent ends, the child ends too, even where the kernel does not
// see to it.
func TestNoOrphans(t *testing.T) {
	for _, words := range []string{"echo", "unkillable"} {
		for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGABRT} {
			t.Run(fmt.Sprint(words, " ", end), func(t *testing.T) {
				cmd := exec.Command(os.Args[0], "parent", words)
				out, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				line, err := bufio.NewReader(out).ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				pid, err := strconv.Atoi(strings.TrimSpace(line))
				if err != nil {
					t.Fatal(line)
				}
				if err := syscall.Kill(pid, 0); err != nil {
					t.Fatal("no child: ", err)
				}
				if err := cmd.Process.Signal(end); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait()
				eventually(t, "the child ends", func() bool { return ended(pid) })
			})
		}
	}
}

// ended reports whether a process is gone, or waits only to be reaped.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
