package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/storage"
)

const (
	aSubject   = "user-4711"
	subjectKey = "a key of at least thirty-two characters"
	receiptKey = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
)

var rightsEnviron = []string{"IMGUS_PRIVACY_SUBJECT_KEY=" + subjectKey, "IMGUS_PRIVACY_RECEIPT_KEY=" + receiptKey}

// A user's rights, the way an operator exercises them beside a running worker.
func TestRights(t *testing.T) {
	s := newStation(t, rightsEnviron...)
	stop := s.daemon()
	small := func(id string, more ...string) {
		s.must(0, append([]string{"enqueue", "--id", id, "--model", "sd1", "--prompt", "a wish", "--steps", "2", "--width", "64", "--height", "64", "--subject", aSubject}, more...)...)
	}
	small("one", "--wait")
	small("two", "--wait", "--input", filepath.Join(golden, "photo-64x64-0.png"), "--keep-input")

	// On hold nothing begins.
	s.must(0, "hold", "--subject", aSubject)
	small("three")
	time.Sleep(time.Second)
	stdout, _ := s.must(0, "hold", "--subject", aSubject, "--json")
	var report privacy.HoldReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || !report.Held || report.Waiting+report.Running != 1 {
		t.Errorf("hold is %s, %v", stdout, err)
	}
	if _, err := readRecord(t.Context(), s.bucket, "three"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("a job on hold has a record: %v", err)
	}

	// A copy of everything.
	file := filepath.Join(t.TempDir(), "copy.tar")
	stdout, _ = s.must(0, "export", "--subject", aSubject, "--output", file)
	if !strings.HasPrefix(stdout, "3 jobs, ") {
		t.Errorf("export says %q", stdout)
	}
	manifest, names := readExport(t, file)
	if len(manifest.Jobs) != 3 || !strings.Contains(names, "inputs/two/input") || !strings.Contains(names, "jobs/three.json") || !strings.Contains(names, "results/one/") {
		t.Errorf("the export has %+v, %s", manifest.Jobs, names)
	}

	// The release lets it go on.
	s.must(0, "hold", "--subject", aSubject, "--release")
	s.await([]string{"three"})
	if r := s.record("three"); r.State != job.Done {
		t.Errorf("three is %s", r.State)
	}

	receipt := filepath.Join(t.TempDir(), "receipt.json")
	status, stdout, stderr := s.run(aSubject+"\n", "erase", "--subject", "-", "--receipt", receipt)
	if status != 0 || stdout != string(readFile(t, receipt)) || strings.Contains(stdout+stderr, aSubject) {
		t.Errorf("exit status %d, printed %s%s", status, stdout, stderr)
	}
	for object, err := range s.bucket.List(t.Context(), "") {
		if err != nil || !strings.HasSuffix(object.Key, "/result.json") {
			t.Errorf("left: %s, %v", object.Key, err)
		}
	}
	stdout, _ = s.must(0, "status", "one")
	if !strings.Contains(stdout, "erased") {
		t.Errorf("status is %q", stdout)
	}
	_, log := stop()
	if strings.Contains(log, aSubject) || strings.Contains(log, "a wish") {
		t.Errorf("the log tells: %s", log)
	}
	verifyReceipts(t, receipt)
}

func readExport(t *testing.T, file string) (m privacy.Manifest, names string) {
	t.Helper()
	digests := map[string]string{}
	for archive := tar.NewReader(bytes.NewReader(readFile(t, file))); ; {
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
		sum := sha256.Sum256(data)
		digests[header.Name] = hex.EncodeToString(sum[:])
		names += header.Name + "\n"
		if header.Name == privacy.ManifestName {
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range m.Files {
		if digests[f.Name] != f.SHA256 {
			t.Errorf("%s is not what the manifest says", f.Name)
		}
	}
	return m, names
}

// verifyReceipts checks a receipt with and without keys; openssl makes them as
// an operator does.
func verifyReceipts(t *testing.T, receipt string) {
	t.Helper()
	dir := t.TempDir()
	offline := &program{t: t, environ: []string{"IMGUS_REDIS_URL=redis://127.0.0.1:1"}}
	configured := &program{t: t, environ: rightsEnviron}
	stdout, _ := configured.must(0, "erase", "--verify", receipt)
	if !strings.HasPrefix(stdout, "valid: ") {
		t.Errorf("verify says %q", stdout)
	}
	offline.must(1, "erase", "--verify", receipt) // nobody said whose signature to expect
	var signed privacy.Signed
	if err := json.Unmarshal(readFile(t, receipt), &signed); err != nil {
		t.Fatal(err)
	}
	public, err := json.Marshal(signed.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	right := writeFile(t, filepath.Join(dir, "right.pub"), bytes.Trim(public, `"`))
	offline.must(0, "erase", "--verify", receipt, "--public-key", right, "--json")
	wrong := writeFile(t, filepath.Join(dir, "wrong.pub"), []byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	offline.must(1, "erase", "--verify", receipt, "--public-key", wrong)
	changed := writeFile(t, filepath.Join(dir, "changed.json"), bytes.Replace(readFile(t, receipt), []byte(`"count":3`), []byte(`"count":4`), 1))
	offline.must(1, "erase", "--verify", changed, "--public-key", right)
}

func TestRightsUsage(t *testing.T) {
	dir := t.TempDir()
	bare := newProgram(t, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+dir)
	for _, command := range []string{"erase", "hold", "export"} {
		bare.must(2, command)
		more := []string{}
		if command == "export" {
			more = []string{"--output", filepath.Join(dir, "x.tar")}
		}
		_, stderr := bare.must(78, append([]string{command, "--subject", aSubject}, more...)...)
		if !strings.Contains(stderr, "privacy.subject_key") || strings.Contains(stderr, aSubject) {
			t.Errorf("%s says %q", command, stderr)
		}
		away := newProgram(t, append([]string{"IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY=" + dir, "IMGUS_REDIS_URL=127.0.0.1:1"}, rightsEnviron...)...)
		_, stderr = away.must(69, append([]string{command, "--subject", aSubject}, more...)...)
		if strings.Contains(stderr, aSubject) {
			t.Errorf("%s says %q", command, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x.tar")); !os.IsNotExist(err) {
		t.Error("an export that failed leaves a file")
	}
	unsigned := newProgram(t, "IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY="+dir, rightsEnviron[0])
	_, stderr := unsigned.must(78, "erase", "--subject", aSubject)
	if !strings.Contains(stderr, "privacy.receipt_key") {
		t.Errorf("it says %q", stderr)
	}
	bare.must(2, "erase", "--verify", filepath.Join(dir, "none"))
	bare.must(2, "erase", "--verify", "x", "--subject", aSubject)
}

// asProcess runs a command of the worker as a process of its own, to be killed.
func (p *program) asProcess(args ...string) *exec.Cmd {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(p.t.Context(), self, args...)
	cmd.Env = append(os.Environ(), append(p.environ, "IMGUS_TEST_COMMAND=1")...)
	return cmd
}
