//go:build !linux

package remote

import (
	"errors"
	"os"
	"syscall"
)

func self() (string, error) { return os.Executable() }

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func inheritNothing() {}

func residentMemory(int) (int64, error) { return 0, errors.ErrUnsupported }
