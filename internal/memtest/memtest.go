// Package memtest looks for bytes in the memory of the test's own process.
package memtest

import (
	"crypto/rand"
	"testing"
)

// Secret is bytes to look for. It keeps them in another form, so that nothing is
// found but copies of what Write wrote.
type Secret struct{ inverse [24]byte }

// Write writes the secret's bytes at the beginning of p.
func (s *Secret) Write(p []byte) {
	for i, b := range s.inverse {
		p[i] = ^b
	}
}

// Gone fails the test if a secret is still in memory after use, which clears what
// it made itself. A goroutine that is stopped while it copies leaves registers on
// its stack, so that it is tried three times.
func Gone(t testing.TB, use func(s *Secret)) {
	t.Helper()
	n := 0
	for range 3 {
		s := &Secret{}
		_, _ = rand.Read(s.inverse[:]) // it never fails
		use(s)
		if n = s.copies(t); n == 0 {
			return
		}
	}
	t.Errorf("it is still in memory, %d times", n)
}
