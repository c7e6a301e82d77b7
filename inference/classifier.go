package inference

import (
	"context"

	"github.com/imgus/worker/job"
)

// Classifier says what a picture shows. It is safe for concurrent use.
type Classifier interface {
	// Classify scores a picture. The error is a *job.Error, or the cause of ctx.
	Classify(ctx context.Context, p Picture) (*Classification, error)
}

// Picture is an encoded picture, and whose it is: the limits of photos are for
// inputs alone.
type Picture struct {
	Data   []byte
	Target job.Target
}

// Classification is what a classifier saw.
type Classification struct {
	// Scores are by label, 0 to 1.
	Scores map[string]float64 `json:"scores"`
	// Digest is of the model.
	Digest string `json:"digest"`
}
