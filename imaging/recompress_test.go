package imaging_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/imgus/worker/imaging"
)

func TestFiltersEqualPillow(t *testing.T) {
	filters := map[string]imaging.Filter{"BOX": imaging.Box, "BILINEAR": imaging.Bilinear, "BICUBIC": imaging.Bicubic}
	for _, c := range readGolden().Filtered {
		t.Run(fmt.Sprintf("%s-%dx%d-%dx%d", c.Filter, c.From[0], c.From[1], c.To[0], c.To[1]), func(t *testing.T) {
			got := imaging.ResizeBy(draw("noise", c.From[0], c.From[1]), c.To[0], c.To[1], filters[c.Filter])
			checkForm(t, got)
			if sum := sha256.Sum256(pixels(got)); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Error("the pixels differ")
			}
		})
	}
}

func TestRecompressEqualsLibjpeg(t *testing.T) {
	for _, c := range readGolden().Recompressed {
		t.Run(fmt.Sprintf("%s-%dx%d-%d", c.Picture, c.Size[0], c.Size[1], c.Quality), func(t *testing.T) {
			got := imaging.Recompress(draw(c.Picture, c.Size[0], c.Size[1]), c.Quality)
			checkForm(t, got)
			if sum := sha256.Sum256(pixels(got)); hex.EncodeToString(sum[:]) != c.SHA256 {
				t.Error("the pixels differ")
			}
		})
	}
}

func BenchmarkRecompress(b *testing.B) {
	src := draw("waves", 224, 224)
	for b.Loop() {
		imaging.Recompress(src, 75)
	}
}
