package queue_test

import (
	"context"
	"fmt"
	"os"

	"github.com/alicebob/miniredis/v2"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
)

// A backend enqueues a job, sealed with a key that the workers have too, and
// asks where it stands.
func ExampleClient() {
	server, err := miniredis.Run() // a real backend has a Redis
	if err != nil {
		panic(err)
	}
	defer server.Close()
	keys, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(keys)
	// openssl rand -base64 32 > keys/2026-11
	if err := os.WriteFile(keys+"/2026-11", []byte("sWJ6ZBXPvGoK2m2Ov7mPLFAVHpKHB2xD1ZnEUQzOGrs="), 0o600); err != nil {
		panic(err)
	}

	client, err := queue.NewClient(queue.ClientOptions{
		Connection: queue.Connection{URL: server.Addr()},
		Keys:       seal.Keys{Directory: keys, Key: "2026-11"},
	})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	ctx := context.Background()
	receipt, err := client.Enqueue(ctx, &job.Job{
		Version: 1, ID: "0197f3a0-6c1e-7b0a-9d5e-2f6f3f1f6a11", Kind: job.TextToImage, Model: "demo", Prompt: new("a large yellow star"),
	}, "interactive")
	if err != nil {
		panic(err)
	}
	fmt.Println(receipt.Queue, receipt.State)
	status, err := client.Status(ctx, receipt.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println(status.State, status.Attempt)
	// Output:
	// interactive queued
	// queued 0
}
