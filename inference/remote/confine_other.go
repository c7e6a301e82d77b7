//go:build !linux

package remote

import (
	"errors"
	"fmt"
	"runtime"
)

// Harden does nothing on this system.
func Harden() error { return nil }

func confine() (string, error) {
	return "", fmt.Errorf("confine engine: %w on %s", errors.ErrUnsupported, runtime.GOOS)
}
