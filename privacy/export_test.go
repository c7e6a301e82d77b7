package privacy_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/storage"
)

func digest(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

// unpack reads an export.
func unpack(t *testing.T, r io.Reader) (map[string]string, privacy.Manifest) {
	t.Helper()
	files := map[string]string{}
	var last string
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[header.Name]; twice {
			t.Errorf("%s is there twice", header.Name)
		}
		last, files[header.Name] = header.Name, string(data)
	}
	var manifest privacy.Manifest
	if err := json.Unmarshal([]byte(files[privacy.ManifestName]), &manifest); err != nil || last != privacy.ManifestName {
		t.Fatalf("%v; the last file is %s", err, last)
	}
	delete(files, privacy.ManifestName)
	return files, manifest
}

func TestExport(t *testing.T) {
	w := newWorld(t)
	var archive bytes.Buffer
	if _, err := w.rights.Export(t.Context(), subject, &archive); err != nil {
		t.Fatal(err)
	}
	files, manifest := unpack(t, &archive)
	if len(files) != len(manifest.Files) {
		t.Errorf("%d files, %d in the manifest", len(files), len(manifest.Files))
	}
	for _, f := range manifest.Files {
		if f.SHA256 != digest(files[f.Name]) || int(f.Bytes) != len(files[f.Name]) {
			t.Errorf("%s is not what the manifest says", f.Name)
		}
		if stored, err := w.memory.Get(t.Context(), f.Name, 1<<20); strings.HasPrefix(f.Name, "jobs/") == (err == nil) || err == nil && digest(string(stored)) != f.SHA256 {
			t.Errorf("%s is not what the storage has: %v", f.Name, err)
		}
	}
	states := map[string]job.State{}
	for _, j := range manifest.Jobs {
		states[strings.TrimPrefix(j.ID, subject+"-")] = j.State
	}
	for state, want := range map[string]job.State{
		"done": job.Done, "kept": job.Done, "failed": job.Failed, "half": job.Queued, "queued": job.Queued, "running": job.Running, "retry": job.Queued,
	} {
		if states[state] != want {
			t.Errorf("%s is told to be %s", state, states[state])
		}
	}
	// Everything of the subject's is there but what came to nothing, and nothing of anybody else's.
	for _, key := range w.memory.Keys() {
		_, there := files[key]
		nothing := strings.HasPrefix(key, "subjects/") || strings.Contains(key, "-half/t1") || strings.Contains(key, "-running/t0")
		if want := mine(key) && !nothing; there != want {
			t.Errorf("%s: in the export %v", key, there)
		}
	}
	if !strings.Contains(files["jobs/"+subject+"-queued.json"], "a wish") {
		t.Error("the waiting job is not there")
	}
}

// What cannot be had is said, and is not passed off as complete.
func TestExportIncomplete(t *testing.T) {
	w := newWorld(t)
	w.memory.Corrupt(storage.ImageKey(subject+"-done", "t1", 0, job.PNG))
	if err := w.memory.Delete(t.Context(), storage.ImageKey(subject+"-kept", "t1", 0, job.PNG)); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := w.rights.Export(t.Context(), subject, &archive); !errors.Is(err, privacy.ErrIncomplete) {
		t.Errorf("got %v", err)
	}
	_, manifest := unpack(t, &archive)
	for _, j := range manifest.Jobs {
		bad := strings.HasSuffix(j.ID, "-done") || strings.HasSuffix(j.ID, "-kept")
		if bad != (j.Problem != "") {
			t.Errorf("%s: problem %q", j.ID, j.Problem)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestExportCannotBeWritten(t *testing.T) {
	if _, err := newWorld(t).rights.Export(t.Context(), subject, full{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}
