//go:build !linux

package onnx

// Trim does nothing here.
func Trim() {}
