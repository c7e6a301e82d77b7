package testservices

import "testing"

// OpenNSFW gives the folder of an image classifier: $IMGUS_TEST_OPENNSFW, else
// the one that the scripts fetched into .cache.
func OpenNSFW(t testing.TB) string {
	t.Helper()
	path := binary("IMGUS_TEST_OPENNSFW", nil, "opennsfw/*")
	if path == "" {
		unavailable(t, "the image classifier is not there")
	}
	return path
}
