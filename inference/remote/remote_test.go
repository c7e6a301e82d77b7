package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
)

// The test binary is its own child: with these arguments it is an engine, or
// the parent of one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "engine":
			syscall.Exit(child())
		case "parent":
			syscall.Exit(parent(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

func child() int {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := remote.Child{
		Log:    log,
		Broken: func(err error) bool { return errors.Is(err, errStubBroken) },
		Open: func(config json.RawMessage) (inference.Engine, error) {
			e := &stub{log: log, device: os.Args[len(os.Args)-1]}
			if err := json.Unmarshal(config, e); err != nil {
				return nil, err
			}
			return e, e.open()
		},
	}
	if err := c.Run(context.Background(), os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		if errors.Is(err, errStubAway) {
			return 69
		}
		return 78
	}
	return 0
}

// buffer is written by a logger and read by a test.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// open opens a pool of stubs.
func open(t testing.TB, change func(*remote.Options)) *remote.Pool {
	t.Helper()
	pool, err := remote.Open(options(t, change))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

func options(t testing.TB, change func(*remote.Options)) remote.Options {
	t.Helper()
	log := &buffer{}
	o := remote.Options{
		Devices: []string{"cpu"}, Program: os.Args[0], Args: []string{"engine"}, Config: stub{},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return o
}

// ask is a request that has the stub do what the words say.
func ask(words string) inference.Request {
	return inference.Request{Job: &job.Job{Version: 1, ID: "a", Kind: job.TextToImage, Model: "m", Prompt: &words}}
}

// does has the stub do something that must work, and returns what it made.
func does(t testing.TB, e inference.Engine, words string) string {
	t.Helper()
	result, err := e.Generate(t.Context(), ask(words))
	if err != nil {
		t.Fatalf("%s: %v", words, err)
	}
	return string(result.Images[0].Data)
}

// fails has the stub do something that must fail with the code.
func fails(t testing.TB, e inference.Engine, words string, code job.Code, says string) {
	t.Helper()
	_, err := e.Generate(t.Context(), ask(words))
	known, ok := errors.AsType[*job.Error](err)
	if !ok || known.Code != code || !strings.Contains(known.Error(), says) {
		t.Fatalf("%s: got %v, want %s with %q", words, err, code, says)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: ", what)
		}
	}
}

var _ io.Closer = (*remote.Pool)(nil)
