package tokenizer

import "math"

// ApplyWeights multiplies the hidden states of one chunk, len(weights) x width,
// each token's by its weight, and then all of them by one factor that brings
// their mean back to what it was (A1111's EmphasisOriginal, which looks at every
// chunk by itself). Weights of 1 change nothing. Pooled vectors stay as they are.
//
// Where the new mean is zero but for rounding, so that the factor would be
// noise, the hidden states are only multiplied.
func ApplyWeights(hidden []float32, width int, weights []float32) {
	var before, after, size float64 // sums
	for i, w := range weights {
		token := hidden[i*width : (i+1)*width]
		for j, h := range token {
			token[j] = h * w
			before += float64(h)
			after += float64(token[j])
			size += float64(max(h, -h, token[j], -token[j]))
		}
	}
	const rounding = 1e-7                   // of float32, in which the original computes its means
	if !(math.Abs(after) > rounding*size) { // so too where a sum is no number
		return
	}
	factor := float32(before / after)
	for i := range hidden[:len(weights)*width] {
		hidden[i] *= factor
	}
}
