package tokenizer_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/tokenizer"
)

func TestApplyWeights(t *testing.T) {
	for name, c := range map[string]struct {
		hidden, weights, want []float32
	}{
		"none":              {nil, nil, nil},
		"all one":           {[]float32{1, 2, 3, -4}, []float32{1, 1}, []float32{1, 2, 3, -4}},
		"mean restored":     {[]float32{1, 2, 3, 4}, []float32{1, 3}, []float32{10. / 24, 20. / 24, 90. / 24, 120. / 24}},
		"sign turned":       {[]float32{1, 1, 2, 2}, []float32{1, -2}, []float32{-1, -1, 4, 4}},
		"all twice":         {[]float32{1, -2, 3, 4}, []float32{2, 2}, []float32{1, -2, 3, 4}},
		"new mean zero":     {[]float32{1, 1, 2, 2}, []float32{1, -0.5}, []float32{1, 1, -1, -1}},
		"new mean rounding": {[]float32{1, 1, 2, 2}, []float32{1, -0.50000003}, []float32{1, 1, -1.0000001, -1.0000001}},
		"old mean zero":     {[]float32{1, -1, 2, -2}, []float32{1, 2}, []float32{1, -1, 4, -4}},
		"weights zero":      {[]float32{1, 1, 2, 2}, []float32{0, 0}, []float32{0, 0, 0, 0}},
		"weights tiny":      {[]float32{1, 1, 2, 2}, []float32{0, 1e-20}, []float32{0, 0, 2e-20, 2e-20}},
	} {
		t.Run(name, func(t *testing.T) {
			hidden := slices.Clone(c.hidden)
			tokenizer.ApplyWeights(hidden, 2, c.weights)
			for i := range hidden {
				if math.Abs(float64(hidden[i]-c.want[i])) > 1e-6*math.Abs(float64(c.want[i])) {
					t.Fatalf("got %v, want %v", hidden, c.want)
				}
			}
		})
	}
}

// One state that is no number must not spread by way of the mean.
func TestApplyWeightsNaN(t *testing.T) {
	hidden := []float32{float32(math.NaN()), 1, 2, float32(math.Inf(1))}
	tokenizer.ApplyWeights(hidden, 2, []float32{2, 3})
	if hidden[1] != 2 || hidden[2] != 6 {
		t.Errorf("got %v", hidden)
	}
}

func TestApplyWeightsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 8).Draw(t, "width")
		weights := rapid.SliceOfN(rapid.Float32Range(0.1, 4), 1, 20).Draw(t, "weights")
		n := width * len(weights)
		hidden := rapid.SliceOfN(rapid.Float32Range(-3, 30), n, n).Draw(t, "hidden")
		got := slices.Clone(hidden)
		tokenizer.ApplyWeights(got, width, weights)

		var before, after, size float64
		for i, h := range hidden {
			before += float64(h)
			after += float64(got[i])
			size += math.Abs(float64(got[i]))
			weighted := float64(h) * float64(weights[i/width])
			first := slices.IndexFunc(hidden, func(h float32) bool { return h != 0 })
			if first < 0 {
				continue
			}
			// One factor for all: cross products agree.
			reference := float64(hidden[first]) * float64(weights[first/width])
			a, b := weighted*float64(got[first]), reference*float64(got[i])
			if math.Abs(a-b) > 1e-5*(math.Abs(a)+math.Abs(b))+1e-30 {
				t.Fatalf("state %d has a factor of its own", i)
			}
		}
		if math.Abs(before-after) > 1e-5*(size+math.Abs(before)) && math.Abs(after) > 1e-5*size {
			t.Fatalf("mean %g, want %g", after/float64(n), before/float64(n))
		}
	})
}
