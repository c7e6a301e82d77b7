package directory

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/imgus/worker/storage"
)

// A full or broken disk cannot be had in a test, so its errors are made up.
func TestFailure(t *testing.T) {
	for _, tt := range []struct{ err, want error }{
		{&fs.PathError{Op: "write", Path: "/secret", Err: syscall.ENOSPC}, storage.ErrUnavailable},
		{&fs.PathError{Op: "read", Path: "/secret", Err: syscall.EIO}, storage.ErrUnavailable},
		{&os.LinkError{Op: "rename", Old: "/secret", New: "/secret", Err: syscall.EROFS}, storage.ErrUnavailable},
		{errors.Join(&fs.PathError{Op: "sync", Path: "/secret", Err: syscall.EDQUOT}, &fs.PathError{Op: "close", Path: "/secret", Err: syscall.EIO}), storage.ErrUnavailable},
		{&fs.PathError{Op: "open", Path: "/secret", Err: syscall.ENAMETOOLONG}, errKey},
		{&fs.PathError{Op: "open", Path: "/secret", Err: errors.New("path escapes from parent")}, errKey},
		{storage.ErrCorrupt, storage.ErrCorrupt},
		{context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		got := failure("put object", tt.err)
		if !errors.Is(got, tt.want) || strings.Contains(got.Error(), "secret") || !strings.HasPrefix(got.Error(), "put object: ") {
			t.Errorf("%v: got %v", tt.err, got)
		}
		if key := errors.Is(got, errKey); key && errors.Is(got, storage.ErrUnavailable) {
			t.Errorf("%v: got %v, which another try cannot help", tt.err, got)
		}
	}
	if got := failure("put object", nil); got != nil {
		t.Errorf("no error: got %v", got)
	}
}
