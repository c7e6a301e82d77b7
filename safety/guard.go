// Package safety keeps out what an operator does not want made: prompts that say
// what is on a list, and pictures in which a classifier sees too much. What it
// found stands in the job's record. A check that cannot run is an error: nothing
// unchecked is published.
package safety

import (
	"context"
	"math"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// Policy is what becomes of a job in which a check finds something.
type Policy string

// The policies. The zero value is Off.
const (
	Off   Policy = "off"   // the check is not run
	Flag  Policy = "flag"  // the record says so
	Block Policy = "block" // the job is refused
)

func (p Policy) on() bool { return p == Flag || p == Block }

// finding is the policy's answer to what a check found.
func (p Policy) finding(found bool) job.Finding {
	switch {
	case !found:
		return job.Passed
	case p == Flag:
		return job.Flagged
	default:
		return job.Blocked
	}
}

// Options configure a Guard.
type Options struct {
	Prompt, Input, Output Policy
	// List is for prompts.
	List *List
	// Classifier is for pictures, and Thresholds are its, by label: a picture
	// stands out whose score is one of them or above.
	Classifier inference.Classifier
	Thresholds map[string]float64
}

// Guard checks jobs. It is safe for concurrent use.
type Guard struct{ options Options }

// New makes a Guard.
func New(o Options) *Guard { return &Guard{o} }

// Prompt checks what the job asks for. The error is a *job.Error.
func (g *Guard) Prompt(j *job.Job) ([]job.Verdict, error) {
	if !g.options.Prompt.on() {
		return nil, nil
	}
	found := false
	for _, text := range asked(j) {
		found = found || g.options.List.Refuses(text)
	}
	v := job.Verdict{
		Check: checkPrompt, Target: job.TargetPrompt, Finding: g.options.Prompt.finding(found), Scores: map[string]float64{}, Digest: g.options.List.Digest(),
	}
	return judged([]job.Verdict{v}, "the prompt was refused by a safety check: ask for something else")
}

const checkPrompt, checkImage = "prompt", "image"

// asked are the texts that ask for something. Negative prompts ask for the
// absence of what they name, which is what one wants of it, unless a weight below
// zero turns that round.
func asked(j *job.Job) []string {
	var texts []string
	add := func(text *string, negative bool) {
		if text != nil && (!negative || negativeWeight.MatchString(*text)) {
			texts = append(texts, *text)
		}
	}
	add(j.Prompt, false)
	add(j.Prompt2, false)
	add(j.NegativePrompt, true)
	add(j.NegativePrompt2, true)
	return texts
}

// Input checks the photo that a job starts from.
func (g *Guard) Input(ctx context.Context, photo []byte) ([]job.Verdict, error) {
	if !g.options.Input.on() || len(photo) == 0 {
		return nil, nil
	}
	v, err := g.classify(ctx, g.options.Input, inference.Picture{Data: photo, Target: job.TargetInput})
	if err != nil {
		return nil, err
	}
	return judged([]job.Verdict{v}, "the photo was refused by a safety check: send another")
}

// Output checks the pictures that a job made.
func (g *Guard) Output(ctx context.Context, images []inference.Image) ([]job.Verdict, error) {
	if !g.options.Output.on() {
		return nil, nil
	}
	verdicts := make([]job.Verdict, len(images))
	for i, image := range images {
		v, err := g.classify(ctx, g.options.Output, inference.Picture{Data: image.Data, Target: job.TargetOutput})
		if err != nil {
			return nil, err
		}
		v.Image = &i
		verdicts[i] = v
	}
	return judged(verdicts, "what was made was refused by a safety check: change the prompt, or try another seed")
}

func (g *Guard) classify(ctx context.Context, policy Policy, p inference.Picture) (job.Verdict, error) {
	c, err := g.options.Classifier.Classify(ctx, p)
	if err != nil {
		return job.Verdict{}, err
	}
	found := false
	for label, threshold := range g.options.Thresholds {
		score, ok := c.Scores[label]
		if !ok || math.IsNaN(score) || math.IsInf(score, 0) {
			return job.Verdict{}, job.Errorf(job.EngineFailed, "the safety check of pictures gave no score")
		}
		found = found || score >= threshold
	}
	return job.Verdict{
		Check: checkImage, Target: p.Target, Finding: policy.finding(found), Scores: c.Scores, Thresholds: g.options.Thresholds, Digest: c.Digest,
	}, nil
}

// judged is the error with the message if a verdict blocks the job.
func judged(verdicts []job.Verdict, message string) ([]job.Verdict, error) {
	for _, v := range verdicts {
		if v.Finding == job.Blocked {
			return verdicts, job.Errorf(job.Refused, "%s", message)
		}
	}
	return verdicts, nil
}
