package imaging_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/imgus/worker/imaging"
)

// bombFile names the file that a child of this test decodes in place of running
// tests.
const bombFile = "IMGUS_TEST_BOMB"

// verdict is what such a child says of a bomb.
type verdict struct {
	NotImage, TooLarge bool
	Error              string
	Peak               uint64 // bytes of memory
}

// tell decodes the file and prints what came of it.
func tell(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = imaging.Decode(context.Background(), data, imaging.DefaultLimits())
	v := verdict{NotImage: errors.Is(err, imaging.ErrNotImage), TooLarge: errors.Is(err, imaging.ErrTooLarge), Error: fmt.Sprint(err)}
	// What Go has taken from the system, and never counts back: as much as the
	// process had in memory at any time, or more.
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	v.Peak = m.Sys
	return json.NewEncoder(os.Stdout).Encode(v)
}

// inChild lets a process of its own decode the file.
func inChild(t *testing.T, file []byte) (v verdict) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bomb")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), bombFile+"="+path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes: %d MB at the peak: %s", len(file), v.Peak>>20, v.Error)
	return v
}

// No bomb takes its process beyond 300 MB, the file and the process itself
// included.
func TestBombs(t *testing.T) {
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) {
			v := inChild(t, b.make(t))
			if v.NotImage != errors.Is(b.err, imaging.ErrNotImage) || v.TooLarge != errors.Is(b.err, imaging.ErrTooLarge) {
				t.Errorf("error %s, want %v", v.Error, b.err)
			}
			if v.Peak > 300<<20 {
				t.Errorf("%d MB", v.Peak>>20)
			}
		})
	}
}

// Decoding takes no more memory than was held against the limit.
func TestForeseenMemory(t *testing.T) {
	const side, process = 2048, 24 << 20
	for name, c := range map[string]struct {
		file  []byte
		bytes uint64 // for a pixel: the decoder's, and 8 of ours
	}{
		"progressive JPEG": {append(scans(side, 3), make([]byte, 1<<13)...), 5 + 8},
		"16-bit PNG":       {rowsPNG(side, 16, 6, zeros(t, side*(1+side*8))), 8 + 8},
		"grey PNG":         {rowsPNG(side, 8, 0, zeros(t, side*(1+side))), 4 + 8},
	} {
		t.Run(name, func(t *testing.T) {
			foreseen := c.bytes * side * side
			tight := imaging.DefaultLimits()
			tight.Memory = int64(foreseen) - side*side
			if _, err := imaging.Decode(t.Context(), c.file, tight); !errors.Is(err, imaging.ErrTooLarge) {
				t.Errorf("%v, want it too large", err)
			}
			if v := inChild(t, c.file); v.NotImage || v.TooLarge || v.Peak > foreseen+process {
				t.Errorf("%d MB, want %d at most, and %s", v.Peak>>20, (foreseen+process)>>20, v.Error)
			}
		})
	}
}
