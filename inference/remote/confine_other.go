//go:build !linux

package remote

import (
	"errors"
	"fmt"
	"runtime"
)

func harden() error { return nil }

func confine() (string, error) {
	return "", fmt.Errorf("confine engine: %w on %s", errors.ErrUnsupported, runtime.GOOS)
}
