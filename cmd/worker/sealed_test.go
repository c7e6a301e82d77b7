package main

import (
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
	"github.com/imgus/worker/storage"
)

// The commands that need to know whose a job is, or what belongs to it, know it
// of a sealed job by its key, and without the key do nothing by halves.
func TestCommandsOnSealedJobs(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "k"), []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))))
	without := newStationOn(t, testservices.Redis(t), testservices.S3(t), seal.Keys{}, rightsEnviron...)
	with := newProgram(t, append(slices.Clone(without.environ), "IMGUS_SEAL_DIRECTORY="+dir, "IMGUS_SEAL_KEY=k", "IMGUS_SEAL_REQUIRED=true")...)
	photo := filepath.Join(golden, "photo-64x64-0.png")
	for _, id := range []string{"erased", "cancelled", "lost"} {
		with.must(0, "enqueue", "--id", id, "--model", "sd1", "--prompt", "a private wish", "--input", photo, "--strength", "0.5", "--subject", aSubject+id)
	}
	for _, key := range without.redis.Keys(t.Context(), "*").Val() {
		if dump := without.redis.Dump(t.Context(), key).Val(); strings.Contains(dump, "private wish") {
			t.Errorf("%s holds a prompt", key)
		}
	}
	photos := func() (keys []string) {
		for object, err := range without.bucket.List(t.Context(), storage.InputPrefix) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, strings.Split(object.Key, "/")[1])
		}
		return keys
	}
	counted := func(p *program) string {
		stdout, _ := p.must(0, "doctor")
		_, rest, _ := strings.Cut(stdout, " jobs in the queues are sealed with k")
		line, _, _ := strings.Cut(rest, "\n")
		return line
	}
	if line := counted(with); line != "" {
		t.Errorf("doctor says%s", line)
	}
	if line := counted(without.program); line != ", which is not here" {
		t.Errorf("without the key doctor says%s", line)
	}

	// A copy says that it may not be whole; an erasure does not begin to end.
	file := filepath.Join(t.TempDir(), "copy.tar")
	without.must(1, "export", "--subject", aSubject+"erased", "--output", file)
	file = filepath.Join(t.TempDir(), "copy.tar")
	with.must(0, "export", "--subject", aSubject+"erased", "--output", file)
	if manifest, names := readExport(t, file); len(manifest.Jobs) != 1 || !strings.Contains(names, "jobs/erased.json") {
		t.Errorf("the export has %+v, %s", manifest, names)
	}
	if _, stderr := without.must(1, "erase", "--subject", aSubject+"erased"); !strings.Contains(stderr, "erased (sealed with key k)") || strings.Contains(stderr, aSubject) {
		t.Error(stderr)
	}
	if stdout, _ := with.must(0, "hold", "--subject", aSubject+"erased"); !strings.Contains(stdout, "1 jobs wait") {
		t.Errorf("hold says %s", stdout)
	}
	with.must(0, "erase", "--subject", aSubject+"erased")
	if r := without.record("erased"); r.State != job.Erased || slices.Contains(photos(), "erased") {
		t.Errorf("%+v, and photos of %s are left", r, photos())
	}

	// Who has no key leaves the end of a job to who has.
	if _, stderr := without.must(0, "cancel", "cancelled"); !strings.Contains(stderr, "--without-key") {
		t.Error(stderr)
	}
	if status, err := without.client.Status(t.Context(), "cancelled"); err != nil || status.State.Final() || !slices.Contains(photos(), "cancelled") {
		t.Errorf("it is %+v, %v, and photos of %s are there", status, err, photos())
	}
	with.must(0, "cancel", "cancelled")
	if r := without.record("cancelled"); r.State != job.Cancelled || slices.Contains(photos(), "cancelled") {
		t.Errorf("%+v, and photos of %s are left", r, photos())
	}
	without.must(0, "cancel", "lost", "--without-key")
	if r := without.record("lost"); r.State != job.Cancelled || !slices.Contains(photos(), "lost") {
		t.Errorf("%+v, and photos of %s are left", r, photos())
	}
	if left := without.leftovers(t.Context()); len(left) > 0 {
		t.Errorf("left in Redis: %s", left)
	}
}
