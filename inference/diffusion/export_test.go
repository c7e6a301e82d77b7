package diffusion

// CombineGuidance lets a test combine predictions by hand.
func CombineGuidance(scale, rescale, image float32, dst, predictions []float32) {
	guidance{scale: scale, rescale: rescale, image: image}.combine(dst, predictions)
}

// What tests outside need of the inside.
var (
	GuidanceEmbedding = guidanceEmbedding
	CheckPixels       = checkPixels
)
