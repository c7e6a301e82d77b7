//go:build !linux

package models

import (
	"errors"
	"os"
)

// exchange swaps two folders in one step, which this system cannot. The error
// is fs.ErrNotExist when b is not there.
func exchange(_, b string) error {
	if _, err := os.Lstat(b); err != nil {
		return err
	}
	return errors.ErrUnsupported
}
