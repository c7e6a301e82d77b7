package storage_test

import (
	"testing"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

func TestKeys(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{storage.InputKey("a", "input"), "inputs/a/input"},
		{storage.RecordKey("a"), "results/a/result.json"},
		{storage.DeletionsKey("a"), "results/a/deleted.json"},
		{storage.ImageKey("a", "t1", 0, job.PNG), "results/a/t1-0.png"},
		{storage.ImageKey("a", "t1", 7, job.JPEG), "results/a/t1-7.jpg"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

func TestValidInputKey(t *testing.T) {
	for key, want := range map[string]bool{
		"inputs/a": true, "inputs/a/b.jpg": true, "inputs/ü": true,
		"": false, "inputs/": false, "inputs": false, "results/a/result.json": false, "inputs/../results/a": false,
		"inputs//a": false, "/inputs/a": false, "inputs/a/": false, "inputs/a\n": false, `inputs/..\a`: false, "inputs/./a": false,
	} {
		if got := storage.ValidInputKey(key); got != want {
			t.Errorf("%q: got %v", key, got)
		}
	}
}
