package imaging_test

import (
	"encoding/binary"
	"image"
	"strings"
	"testing"

	"github.com/imgus/worker/imaging"
)

// An Orientation of any whole type is obeyed, as Pillow 13 does it, and one of
// another is not: each of these was tried with it.
func TestOrientationTypes(t *testing.T) {
	for name, c := range map[string]struct {
		kind   uint16
		count  uint32
		value  string
		turned bool
	}{
		"BYTE":                   {1, 1, "\x06\x00\x00\x00", false},
		"ASCII":                  {2, 1, "6\x00\x00\x00", false},
		"SHORT":                  {3, 1, "\x00\x06\x00\x00", true},
		"two SHORTs":             {3, 2, "\x00\x06\x00\x06", true},
		"LONG":                   {4, 1, "\x00\x00\x00\x06", true},
		"LONG that is too large": {4, 1, "\x00\x01\x00\x06", false},
		"SBYTE":                  {6, 1, "\x06\x00\x00\x00", true},
		"UNDEFINED":              {7, 1, "\x06\x00\x00\x00", false},
		"SSHORT":                 {8, 1, "\x00\x06\x00\x00", true},
		"SLONG":                  {9, 1, "\x00\x00\x00\x06", true},
		"IFD":                    {13, 1, "\x00\x00\x00\x06", true},
	} {
		t.Run(name, func(t *testing.T) {
			entry := binary.BigEndian.AppendUint16([]byte{0x01, 0x12}, c.kind)
			entry = append(binary.BigEndian.AppendUint32(entry, c.count), c.value...)
			exif := "Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + string(entry) + strings.Repeat("\x00", 4)
			img, err := imaging.Decode(t.Context(), flat{32, 16, 0xc0, 3, 0x22}.jpeg(segment(0xe1, exif)), imaging.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if turned := img.Rect.Size() == image.Pt(16, 32); turned != c.turned {
				t.Errorf("turned: %v", turned)
			}
		})
	}
}
