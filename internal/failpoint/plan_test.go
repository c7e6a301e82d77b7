package failpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the program that is ordered to end.
func TestMain(m *testing.M) {
	if text := os.Getenv("FAILPOINT_TEST_CHILD"); text != "" {
		p, err := parse(text)
		if err != nil {
			panic(err)
		}
		p.hit(BeforeAck)
		p.hit(BeforeAck)
		return
	}
	m.Run()
}

func TestNonsense(t *testing.T) {
	for text, want := range map[string]string{
		"nowhere=kill":              "no such point",
		"before-ack":                "orders are",
		"before-ack=explode":        "orders are",
		"before-ack=pause:soon":     "duration",
		"before-ack=signal:":        "needs a file",
		"before-ack#0=kill":         "number",
		"dequeued=kill;before-ack=": "orders are",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestKill(t *testing.T) {
	for text, want := range map[string]string{
		"before-ack=kill": "signal: killed", "before-ack#2=kill": "signal: killed", "before-ack#3=kill": "", "dequeued=kill": "", "before-ack=pause:1ms": "",
	} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "FAILPOINT_TEST_CHILD="+text)
		got := ""
		if err := child.Run(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: the program ended with %q, want %q", text, got, want)
		}
	}
}

func TestSignal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reached")
	p, err := parse(Order(AfterImagePut, file) + ";after-image-put#2=pause:1ms")
	if err != nil {
		t.Fatal(err)
	}
	p.hit(BeforeCommit)
	if _, err := os.Stat(file); err == nil {
		t.Fatal("another point gave the signal")
	}
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		p.hit(AfterImagePut)
		p.hit(AfterImagePut)
	}()
	for {
		if _, err := os.Stat(file); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case <-passed:
		t.Fatal("it did not wait")
	default:
	}
	if err := Release(file); err != nil {
		t.Fatal(err)
	}
	<-passed
}
