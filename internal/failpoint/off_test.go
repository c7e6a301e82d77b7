//go:build !failpoints

package failpoint

import "testing"

// In the program as it is shipped nothing is obeyed.
func TestHit(t *testing.T) {
	t.Setenv(Variable, "before-commit=kill")
	Hit(BeforeAck)
}
