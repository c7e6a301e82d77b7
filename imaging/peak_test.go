package imaging_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
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

// Photos that are near the limits are taken, and stay below the bombs' bound.
func TestLargePhotos(t *testing.T) {
	comment := bytes.Repeat(segment(0xfe, strings.Repeat("x", 65000)), 300) // 19 MB
	for name, file := range map[string][]byte{
		"48 megapixels of a phone on its side, in 19 MB": flat{8064, 6048, 0xc0, 3, 0x22}.jpeg(onItsSide, comment),
		"24 megapixels, progressive":                     flat{6000, 4000, 0xc2, 3, 0x22}.jpeg(onItsSide),
		"39 megapixels with full chroma":                 flat{7200, 5400, 0xc0, 3, 0x11}.jpeg(),
		"14 megapixels, progressive and full chroma":     flat{4400, 3300, 0xc2, 3, 0x11}.jpeg(onItsSide),
		"PNG of 49 megapixels":                           rowsPNG(7000, 8, 6, zeros(t, 7000*(1+7000*4))),
		"PNG of 23 megapixels of 16 bits":                rowsPNG(4800, 16, 6, zeros(t, 4800*(1+4800*8))),
		"WebP of one colour":                             oneColour(1024),
	} {
		t.Run(name, func(t *testing.T) {
			if v := inChild(t, file); v.NotImage || v.TooLarge || v.Peak > 300<<20 {
				t.Errorf("%d MB, %s", v.Peak>>20, v.Error)
			}
		})
	}
}

// Decoding takes no more memory than was held against the limit.
func TestForeseenMemory(t *testing.T) {
	const side, process = 2048, 24 << 20
	for name, c := range map[string]struct {
		file  []byte
		bytes uint64 // for a pixel
	}{
		"progressive JPEG":   {flat{side, side, 0xc2, 3, 0x11}.jpeg(), 3*5 + 4},
		"JPEG":               {flat{side, side, 0xc0, 3, 0x22}.jpeg(onItsSide), 6},
		"JPEG of RGB":        {flat{side, side, 0xc0, 3, 0x22}.jpeg(adobe), 6},
		"turned JPEG of RGB": {flat{side, side, 0xc0, 3, 0x22}.jpeg(adobe, onItsSide), 10},
		"CMYK":               {flat{side, side, 0xc0, 4, 0x11}.jpeg(adobe), 4 + 4 + 4},
		"16-bit PNG":         {rowsPNG(side, 16, 6, zeros(t, side*(1+side*8))), 8 + 4},
		"PNG":                {rowsPNG(side, 8, 6, zeros(t, side*(1+side*4))), 4},
		"turned PNG":         {withChunk(rowsPNG(side, 8, 2, zeros(t, side*(1+side*3))), "eXIf", onItsSide[10:]), 4 + 4},
		"grey PNG":           {rowsPNG(side, 8, 0, zeros(t, side*(1+side))), 1 + 4},
		"lossless WebP":      {oneColour(side), 9},
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
