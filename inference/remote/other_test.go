//go:build !linux

package remote_test

func forgetParent() {}
