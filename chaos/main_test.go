package chaos

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Scenarios wait most of the time.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "imgus-chaos")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	goleak.VerifyTestMain(cleaning{m, dir})
}

// cleaning removes what was built before goleak ends the program.
type cleaning struct {
	*testing.M
	dir string
}

func (c cleaning) Run() int {
	defer os.RemoveAll(c.dir)
	return c.M.Run()
}

// built are the programs under test, built once.
var built struct {
	once            sync.Once
	dir             string
	worker, auditor string
	err             error
}

// programs builds the worker with failpoints, and the auditor.
func programs(t *testing.T) (worker, auditor string) {
	t.Helper()
	built.once.Do(func() {
		built.worker, built.auditor = filepath.Join(built.dir, "worker"), filepath.Join(built.dir, "auditor")
		for program, pkg := range map[string]string{built.worker: "../cmd/worker", built.auditor: "./auditor"} {
			build := exec.Command("go", "build", "-tags", "nodynamic,failpoints", "-o", program, pkg)
			if output, err := build.CombinedOutput(); err != nil {
				built.err = fmt.Errorf("build %s: %w\n%s", pkg, err, bytes.TrimSpace(output))
			}
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.worker, built.auditor
}
