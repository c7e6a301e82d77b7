package testservices

import "syscall"

// dieWithParent has the kernel kill the child when the test's process ends in
// a way that leaves no time for clean-up.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
