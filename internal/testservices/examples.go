package testservices

import "testing"

// Examples gives the folder in which the examples of docs/examples run, with
// bin/python and bin/node: $IMGUS_TEST_EXAMPLES, else the newest one that the
// scripts made in .cache.
func Examples(t testing.TB) string {
	t.Helper()
	path := binary("IMGUS_TEST_EXAMPLES", nil, "examples/*")
	if path == "" {
		unavailable(t, "what the examples need is not there")
	}
	return path
}
