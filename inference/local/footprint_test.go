package local_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/local"
)

func TestCurve(t *testing.T) {
	var c local.Curve
	if got := c.At(7); got != 0 {
		t.Errorf("of nothing %d is known", got)
	}
	c.Add(100, 50)
	for load, want := range map[int64]int64{2: 1, 100: 50, 200: 100, 1000: 500} {
		if got := c.At(load); got != want {
			t.Errorf("by one measurement %d takes %d, want %d", load, got, want)
		}
	}
	c.Add(300, 90)
	c.Add(200, 40) // less than a smaller load: it held that already
	for load, want := range map[int64]int64{2: 1, 100: 50, 150: 50, 250: 70, 300: 90, 400: 110, 1300: 290} {
		if got := c.At(load); got != want {
			t.Errorf("%d takes %d, want %d", load, got, want)
		}
	}
}

// A larger load never takes less.
func TestCurveGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c local.Curve
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			c.Add(rapid.Int64Range(1, 1000).Draw(t, "load"), rapid.Int64Range(0, 1e9).Draw(t, "bytes"))
		}
		a := rapid.Int64Range(1, 5000).Draw(t, "a")
		b := rapid.Int64Range(a, 5000).Draw(t, "b")
		if c.At(b) < c.At(a) {
			t.Fatalf("%d takes %d and %d only %d", a, c.At(a), b, c.At(b))
		}
	})
}

// Each out-of-memory leads to the next smaller tiles, and after the last to none.
func TestSmallerAndSmallerTiles(t *testing.T) {
	for _, pixels := range []int64{64 * 64, 512 * 768, 2048 * 2048} {
		f := local.NewFootprint(0, nil, nil)
		d := local.NewDemand(pixels, 1, true)
		for _, want := range []float64{0, 0.75, 0.5, 0.375, 0.25} {
			_, tile, _, ok := f.Plan(d, 0, 0, -1)
			if tile != want || !ok {
				t.Errorf("%d pixels: tiles of %v, want %v", pixels, tile, want)
			}
			if more := f.Crowded(d, 1, tile, true); more != (want > 0.25 || want == 0) {
				t.Errorf("%d pixels: after tiles of %v, more are left: %v", pixels, tile, more)
			}
		}
	}
}

func TestPlan(t *testing.T) {
	// A model of 1,000 bytes; its UNet takes a byte for each pixel of a sample,
	// its VAE two for each pixel; with the margin 1.2 and 2.4.
	measured := func() *local.Footprint {
		var unet, vae local.Curve
		unet.Add(1000, 1000)
		vae.Add(1000, 2000)
		return local.NewFootprint(1000, unet, vae)
	}
	tests := []struct {
		name              string
		pixels            int64
		samples           int
		tiling            bool
		heldUNet, heldVAE int64
		room              int64
		batch             int
		tile              float64
		bytes             int64
		fits              bool
		crowded, inVAE    bool // after an out-of-memory of 8 samples of 1,000 pixels
	}{
		{name: "no bound", pixels: 1000, samples: 8, room: -1, batch: 8, bytes: 1000 + 9600 + 2400, fits: true},
		{name: "all fits", pixels: 1000, samples: 8, room: 13000, batch: 8, bytes: 13000, fits: true},
		{name: "half the batch", pixels: 1000, samples: 8, room: 12999, batch: 4, bytes: 8200, fits: true},
		{name: "an odd batch", pixels: 1000, samples: 3, room: 6000, batch: 2, bytes: 5800, fits: true},
		{name: "one sample", pixels: 1000, samples: 8, room: 4600, batch: 1, bytes: 4600, fits: true},
		{name: "nothing fits", pixels: 1000, samples: 8, room: 4599, batch: 1, bytes: 4600},
		{name: "tiles", pixels: 1000, samples: 8, tiling: true, room: 4599, batch: 1, tile: 0.75, bytes: 1000 + 1200 + 1349, fits: true},
		{name: "the smallest tiles", pixels: 1000, samples: 8, tiling: true, room: 2000, batch: 1, tile: 0.25, bytes: 1000 + 1200 + 149},
		{name: "what is held counts", pixels: 1000, samples: 1, heldUNet: 5000, heldVAE: 1, room: 8000, batch: 1, bytes: 1000 + 5000 + 2400},
		{name: "crowded", pixels: 1000, samples: 8, room: -1, batch: 4, bytes: 8200, fits: true, crowded: true},
		{name: "crowded, larger", pixels: 2000, samples: 8, room: -1, batch: 4, bytes: 1000 + 9600 + 4800, fits: true, crowded: true},
		{name: "crowded, smaller", pixels: 500, samples: 8, room: -1, batch: 8, bytes: 1000 + 4800 + 1200, fits: true, crowded: true},
		{name: "crowded VAE", pixels: 1000, samples: 1, tiling: true, room: -1, batch: 1, tile: 0.75, bytes: 1000 + 1200 + 1349, fits: true, crowded: true, inVAE: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := measured()
			if tt.crowded && !f.Crowded(local.NewDemand(1000, 8, tt.tiling), 8, 0, tt.inVAE) {
				t.Fatal("nothing smaller is left")
			}
			batch, tile, bytes, ok := f.Plan(local.NewDemand(tt.pixels, tt.samples, tt.tiling), tt.heldUNet, tt.heldVAE, tt.room)
			if batch != tt.batch || tile != tt.tile || bytes != tt.bytes || ok != tt.fits {
				t.Errorf("a batch of %d, tiles of %v, %d bytes, fits: %v; want %d, %v, %d, %v", batch, tile, bytes, ok, tt.batch, tt.tile, tt.bytes, tt.fits)
			}
		})
	}
}
