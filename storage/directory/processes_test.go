package directory_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/directory"
)

// raceDir makes this program one of the processes of TestProcessesRace.
const raceDir = "DIRECTORY_TEST_RACE"

// writeDir makes it the writer of TestKilledWriterLeavesNothing.
const writeDir = "DIRECTORY_TEST_WRITE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(raceDir); dir != "" {
		race(dir)
		return
	}
	if dir := os.Getenv(writeDir); dir != "" {
		write(dir)
	}
	m.Run()
}

const (
	processes = 6
	rounds    = 20
)

// write puts a large object again and again, until it is killed.
func write(dir string) {
	b, err := directory.Open(dir)
	if err != nil {
		panic(err)
	}
	photo := make([]byte, 64<<20)
	for {
		if err := b.Put(context.Background(), "inputs/a/photo", photo, storage.PutOptions{}); err != nil {
			panic(err)
		}
	}
}

// A writer is killed in the midst of a photo: who opens the folder next, however
// soon, leaves nothing of it.
func TestKilledWriterLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temporary := filepath.Join(dir, ".imgus", "tmp")
	for range 5 {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), writeDir+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; {
			if entries, _ := os.ReadDir(temporary); len(entries) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing is written")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		open(t, dir)
		if entries, err := os.ReadDir(temporary); err != nil || len(entries) > 0 {
			t.Errorf("left: %v, %v", entries, err)
		}
	}
}

// race puts the record of each round and prints the rounds that it won.
func race(dir string) {
	b, err := directory.Open(dir)
	if err != nil {
		panic(err)
	}
	defer b.Close()
	for round := range rounds {
		key := fmt.Sprintf("results/%d/result.json", round)
		err := b.PutIfAbsent(context.Background(), key, fmt.Append(nil, os.Getpid()), storage.PutOptions{})
		if err == nil {
			fmt.Fprintln(os.Stdout, "won", round)
		} else if !errors.Is(err, storage.ErrExists) {
			panic(err)
		}
	}
}

// Of several processes exactly one wins each round.
func TestProcessesRace(t *testing.T) {
	dir := t.TempDir()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	outputs := make([]string, processes)
	var running sync.WaitGroup
	for i := range outputs {
		running.Go(func() {
			cmd := exec.CommandContext(t.Context(), program)
			cmd.Env = append(os.Environ(), raceDir+"="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
			outputs[i] = string(out)
		})
	}
	running.Wait()
	won := strings.Fields(strings.ReplaceAll(strings.Join(outputs, ""), "won ", ""))
	seen := map[string]bool{}
	for _, round := range won {
		if seen[round] {
			t.Errorf("round %s was won twice", round)
		}
		seen[round] = true
	}
	if len(seen) != rounds {
		t.Errorf("%d of %d rounds were won", len(seen), rounds)
	}
}
