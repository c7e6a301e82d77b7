package directory_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/imgus/worker/storage"
)

// A writer that was killed leaves its temporary file, which can be a photo.
func TestUploads(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	put(t, b, "inputs/a", "1")
	left := filepath.Join(dir, ".imgus", "tmp", "HALF")
	if err := os.WriteFile(left, []byte("half a photo"), 0o600); err != nil {
		t.Fatal(err)
	}
	var found []storage.Upload
	for u, err := range b.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, u)
	}
	if len(found) != 1 || found[0].ID != "HALF" || found[0].Size != 12 || found[0].Begun.IsZero() || !found[0].Abandoned {
		t.Fatalf("found %+v", found)
	}
	for range 2 { // another worker may have done it
		if err := b.Abort(t.Context(), found[0]); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}
