//go:build !linux

package memtest

import "testing"

func (s *Secret) copies(t testing.TB) int {
	t.Helper()
	t.Skip("memory can be searched on Linux alone")
	return 0
}
