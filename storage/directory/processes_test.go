package directory_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/directory"
)

// raceDir makes this program one of the processes of TestProcessesRace.
const raceDir = "DIRECTORY_TEST_RACE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(raceDir); dir != "" {
		race(dir)
		return
	}
	m.Run()
}

const (
	processes = 6
	rounds    = 20
)

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
