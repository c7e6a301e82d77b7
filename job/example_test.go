package job_test

import (
	"fmt"

	"github.com/imgus/worker/job"
)

// Every problem of a job is told at once, by the name of its field.
func ExampleParse() {
	_, err := job.Parse([]byte(`{"version": 1, "id": "a", "kind": "text-to-image", "model": "demo", "promt": "a star", "steps": 500}`), job.Limits{})
	fmt.Println(err)
	// Output:
	// invalid_job: promt: unknown field; did you mean prompt?; prompt: required (it may be ""); steps: must be from 1 to 150
}
