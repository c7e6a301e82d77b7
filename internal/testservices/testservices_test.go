package testservices

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// verdict is a test that notes how it was ended.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Helper() {}

func (v *verdict) Skip(args ...any) {
	v.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (v *verdict) Fatal(args ...any) {
	v.failed = fmt.Sprint(args...)
	runtime.Goexit()
}

func TestUnavailable(t *testing.T) {
	for _, required := range []string{"", "1"} {
		t.Setenv("IMGUS_TEST_REQUIRE", required)
		var v verdict
		var ended sync.WaitGroup
		ended.Go(func() { unavailable(&v, "no server") })
		ended.Wait()
		said, other := v.skipped, v.failed
		if required != "" {
			said, other = other, said
		}
		if !strings.Contains(said, "no server") || !strings.Contains(said, "make test") || other != "" {
			t.Errorf("required %q: skipped %q, failed %q", required, v.skipped, v.failed)
		}
	}
}

func TestServerThatDoesNotFit(t *testing.T) {
	if problem := checkRedis("/bin/echo"); !strings.Contains(problem, "is no Redis server") {
		t.Errorf("got %q", problem)
	}
	if problem := checkRedis(redisBinary(t)); problem != "" {
		t.Errorf("got %q", problem)
	}
}
