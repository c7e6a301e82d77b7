package testservices

import (
	"encoding/json"
	"errors"
	"os/exec"
	"testing"
)

// Exiftool reads the metadata of the files with exiftool, which shares no code
// with us: all tags of each, in the files' order, by group and name
// ("XMP-dc:Identifier"). What it finds wrong with a file is "ExifTool:Warning"
// or "ExifTool:Error".
func Exiftool(t testing.TB, files ...string) []map[string]any {
	t.Helper()
	path := binary("IMGUS_TEST_EXIFTOOL", []string{"exiftool"}, "exiftool/exiftool")
	if path == "" {
		unavailable(t, "exiftool is not there")
	}
	// -a and -u: duplicates and unknown tags too; -n: values as they are stored.
	output, err := exec.Command(path, append([]string{"-json", "-G1", "-a", "-u", "-n", "-all", "-validate"}, files...)...).Output()
	if exit, failed := errors.AsType[*exec.ExitError](err); err != nil && (!failed || len(output) == 0) {
		if failed {
			t.Fatalf("exiftool: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("exiftool: %v", err)
	}
	var tags []map[string]any
	if err := json.Unmarshal(output, &tags); err != nil {
		t.Fatalf("exiftool: %v in %s", err, output)
	}
	return tags
}
