package models

import "golang.org/x/sys/unix"

// exchange swaps two folders in one step. The error is fs.ErrNotExist when one
// of them is not there.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
