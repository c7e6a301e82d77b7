package memtest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// copies counts the secret in all memory that the process can write, what was
// freed and not used again included.
func (s *Secret) copies(t testing.TB) (n int) {
	t.Helper()
	// Registers that moved it last would be saved when this goroutine is stopped.
	var from, to [4096]byte
	for size := 1; size <= len(from); size *= 2 {
		copy(to[:size], from[:])
		copy(to[:size*3/4], from[:])
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	// It is read into memory outside of Go's, which is then not looked at.
	const size = 1 << 20
	window, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(window) }()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += size - uint64(len(s.inverse)) {
			read, _ := memory.ReadAt(window[:min(size, to-at)], int64(at)) // some regions cannot be read
			for i := range read {
				window[i] = ^window[i]
			}
			n += bytes.Count(window[:read], s.inverse[:])
			clear(window)
		}
	}
	return n
}
