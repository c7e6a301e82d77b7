package diffusion_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/diffusion"
)

func TestGuidance(t *testing.T) {
	tests := []struct {
		name                  string
		scale, rescale, image float32
		predictions, want     []float32
	}{
		{"none", 7, 0, 0, []float32{1, 2}, []float32{1, 2}},
		{"classifier-free", 3, 0, 0, []float32{1, 2, 2, 0}, []float32{4, -4}},
		// The guided [4, -4] has 4 times the deviation of [2, 0].
		{"rescaled", 3, 1, 0, []float32{1, 2, 2, 0}, []float32{1, -1}},
		{"half rescaled", 3, 0.5, 0, []float32{1, 2, 2, 0}, []float32{2.5, -2.5}},
		{"instruct-pix2pix", 7, 0, 2, []float32{1, 1, 2, 2, 3, 4}, []float32{10, 17}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make([]float32, 2)
			diffusion.CombineGuidance(tt.scale, tt.rescale, tt.image, got, tt.predictions)
			for i := range got {
				if math.Abs(float64(got[i]-tt.want[i])) > 1e-6 {
					t.Fatalf("got %v, want %v", got, tt.want)
				}
			}
		})
	}
}

func TestGuidanceOfOneIsTheConditional(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 64).Draw(t, "n")
		x := rapid.SliceOfN(rapid.Float32Range(-10, 10), 2*n, 2*n).Draw(t, "x")
		got := make([]float32, n)
		diffusion.CombineGuidance(1, 0, 0, got, x)
		for i := range got {
			if math.Abs(float64(got[i]-x[n+i])) > 1e-5 {
				t.Fatalf("element %d: %v, want %v", i, got[i], x[n+i])
			}
		}
	})
}

// Values of LatentConsistencyModelPipeline.get_guidance_scale_embedding(w=7.5,
// embedding_dim=6) worked out by hand: frequencies 1, 0.01 and 0.0001 times
// 7500.
func TestGuidanceEmbedding(t *testing.T) {
	got := diffusion.GuidanceEmbedding(7.5, 6)
	for i, angle := range []float64{7500, 75, 0.75} {
		if d := math.Abs(float64(got[i]) - math.Sin(angle)); d > 5e-4 {
			t.Errorf("sine %d differs by %g", i, d)
		}
		if d := math.Abs(float64(got[3+i]) - math.Cos(angle)); d > 5e-4 {
			t.Errorf("cosine %d differs by %g", i, d)
		}
	}
}

func TestCheckPixels(t *testing.T) {
	picture := func(change func(x []float32)) []float32 {
		x := make([]float32, 12)
		for i := range x {
			x[i] = float32(i) / 12
		}
		change(x)
		return x
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, tt := range map[string]struct {
		pixels []float32
		bad    bool
	}{
		"picture":   {picture(func([]float32) {}), false},
		"one NaN":   {picture(func(x []float32) { x[11] = nan }), true},
		"infinity":  {picture(func(x []float32) { x[3] = -inf }), true},
		"black":     {picture(func(x []float32) { fill(x, -1) }), true},
		"nearly":    {picture(func(x []float32) { fill(x, -1); x[2] = -0.9999 }), true},
		"blacker":   {picture(func(x []float32) { fill(x, -1); x[2] = -7 }), true},
		"colour":    {picture(func(x []float32) { fill(x[:4], 0.1); fill(x[4:8], 0.2); fill(x[8:], 0.3) }), true},
		"one pixel": {picture(func(x []float32) { fill(x, -1); x[7] = -0.5 }), false},
	} {
		if err := diffusion.CheckPixels(tt.pixels); tt.bad != errors.Is(err, diffusion.ErrBadOutput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
