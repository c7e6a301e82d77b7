//go:build !linux

package testservices

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
