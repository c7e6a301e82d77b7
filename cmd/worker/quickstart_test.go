package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
)

// TestFiveCommands runs the README's way to a worker on Redis and an S3 server
// as it stands there, on ports of its own.
func TestFiveCommands(t *testing.T) {
	library := testservices.ONNXRuntime(t)
	testservices.S3(t) // without the servers there is nothing to show
	readme := string(readFile(t, "../../README.md"))
	_, block, found := strings.Cut(readme, "in five commands:\n\n```sh\n")
	commands, _, closed := strings.Cut(block, "```")
	if !found || !closed || strings.Count(commands, "\n") != 5 {
		t.Fatalf("the README has no five commands: %q", commands)
	}
	// And how to end it, and where the picture is.
	end := regexp.MustCompile("`(kill [^`]+)` ends the worker").FindStringSubmatch(readme)
	if len(end) != 2 || !strings.Contains(readme, "below `.cache/services/s3/imgus/`") {
		t.Fatal("the README says not how to end the worker, or where the picture is")
	}
	home, redis, s3 := t.TempDir(), port(t), port(t)
	script := "set -e\ntrap 'kill $(jobs -p) || true; wait; make services/stop' EXIT\n" + commands + end[1] + "\nwait %1\ntrap - EXIT\nmake services/stop\n"
	bash := exec.CommandContext(t.Context(), "bash", "-c", script)
	bash.Dir = "../.."
	bash.Env = append(os.Environ(), "SERVICES_DIRECTORY="+home, "SERVICES_REDIS_PORT="+redis, "SERVICES_S3_PORT="+s3,
		"IMGUS_REDIS_URL=redis://127.0.0.1:"+redis+"/0", "IMGUS_STORAGE_ENDPOINT=127.0.0.1:"+s3, "IMGUS_MODELS_DIRECTORY="+filepath.Join(home, "models"),
		"IMGUS_HTTP_ADDRESS=", "IMGUS_ENGINE_LIBRARY="+library)
	var stdout, stderr buffer
	bash.Stdout, bash.Stderr = &stdout, &stderr
	if err := bash.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &stdout, &stderr)
	}
	var last string
	for line := range strings.Lines(stdout.String()) {
		if strings.Contains(line, `"state"`) {
			last = line
		}
	}
	r := oneRecord(t, last)
	if r.State != job.Done || len(r.Images) != 1 {
		t.Fatalf("record is %s", last)
	}
	if _, err := os.Stat(filepath.Join(home, "s3", "imgus", filepath.FromSlash(r.Images[0].Key))); err != nil {
		t.Error(err)
	}
	if strings.Contains(stdout.String(), "\nfailed ") {
		t.Error(stdout.String())
	}
}

// port is one on which nobody listens.
func port(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal("no TCP")
	}
	return fmt.Sprint(address.Port)
}
