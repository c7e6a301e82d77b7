package imaging_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(bombFile); path != "" {
		if err := tell(path); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}
