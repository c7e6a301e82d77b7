package job

// Target is what a safety check looked at.
type Target string

// The targets of safety checks.
const (
	TargetPrompt Target = "prompt"
	TargetInput  Target = "input"
	TargetOutput Target = "output"
)

// Finding is what a safety check came to.
type Finding string

// The findings of safety checks.
const (
	Passed  Finding = "passed"
	Flagged Finding = "flagged" // it stands out, and the policy lets it pass
	Blocked Finding = "blocked" // the job is refused
)

// Verdict is what one safety check said of one thing. It never holds words of a
// prompt.
type Verdict struct {
	// Check is "prompt", the list of words, or "image", the classifier.
	Check   string  `json:"check"`
	Target  Target  `json:"target"`
	Finding Finding `json:"verdict"`
	// Image is which of several outputs, from 0.
	Image *int `json:"image,omitempty"`
	// Scores are the classifier's by label, 0 to 1, and Thresholds those from
	// which on a label stands out.
	Scores     map[string]float64 `json:"scores"`
	Thresholds map[string]float64 `json:"thresholds,omitempty"`
	// Digest is of the list, or of the classifier's model.
	Digest string `json:"digest"`
}
