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
		// echo -n "what do ya want for nothing?" | openssl dgst -sha256 -hmac Jefe (RFC 4231, case 2)
		{storage.SubjectKey(storage.Pseudonym([]byte("Jefe"), "what do ya want for nothing?"), "a"), "subjects/5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843/a"},
		{storage.HoldKey("5bdc"), "holds/5bdc"},
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
