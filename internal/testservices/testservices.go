// Package testservices starts the real servers that tests talk to, Redis and an
// S3 server, as child processes that end with the test.
//
// Environment:
//
//	IMGUS_TEST_REDIS         host:port of a running Redis, used as it is by Redis
//	IMGUS_TEST_REDIS_SERVER  path of a redis-server or valkey-server, 6.2 or later
//	IMGUS_TEST_S3            http://key:secret@host:port/bucket, used as it is by S3
//	IMGUS_TEST_VERSITYGW     path of a versitygw
//	IMGUS_TEST_EXIFTOOL      path of an exiftool
//	IMGUS_TEST_OPENNSFW      folder of the classifier that scripts/opennsfw.sh makes
//	IMGUS_TEST_REQUIRE       when set, a test fails whose server cannot be had
package testservices

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// unavailable ends a test whose server cannot be had: it is skipped, but where
// everything is required it fails.
func unavailable(t testing.TB, reason string) {
	t.Helper()
	reason += "; `make test` gets it and runs every test"
	if os.Getenv("IMGUS_TEST_REQUIRE") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// binary returns the path of a server's program: the one named by the variable,
// else the first of the names on the PATH, else the newest that the scripts
// fetched into .cache; "" when there is none.
func binary(variable string, names []string, cached string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(filepath.Dir(file)))
	if found, _ := filepath.Glob(filepath.Join(root, ".cache", cached)); len(found) > 0 {
		return found[len(found)-1]
	}
	return ""
}

// ports that this process gave out already.
var ports sync.Map

// busOffset is how far a Redis Cluster node's bus port lies above its port.
const busOffset = 10000

// freePort returns a port of the loopback interface on which nobody listens,
// and with bus nobody busOffset above it either. It lies below the range from
// which systems take the ports of outgoing connections.
func freePort(t testing.TB, bus bool) int {
	t.Helper()
	for range 1000 {
		port := 12000 + rand.IntN(10000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		if idle(port) && (!bus || idle(port+busOffset)) {
			return port
		}
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

func idle(port int) bool {
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
