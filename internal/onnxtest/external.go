package onnxtest

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of onnx.proto.
const (
	graphInitializer                            = 5
	tensorRaw, tensorExternal, tensorLocation   = 9, 13, 14
	entryKey, entryValue, locationExternal, big = 1, 2, 1, 100
)

// Externalize moves the model's weights into a file beside it, as exporters do
// with more than 2 GiB, and returns the model without them.
func Externalize(t testing.TB, model []byte, dir, name string) []byte {
	t.Helper()
	var weights []byte
	out := edit(t, model, modelGraph, func(graph []byte) []byte {
		var out []byte
		each(t, graph, func(number protowire.Number, field, content []byte) {
			if number == graphInitializer {
				content, weights = moveOut(t, content, weights, name)
				field = appendBytes(nil, number, content)
			}
			out = append(out, field...)
		})
		return out
	})
	if err := os.WriteFile(filepath.Join(dir, name), weights, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// moveOut appends a tensor's bytes to the weights, unless they are few.
func moveOut(t testing.TB, tensor, weights []byte, name string) (smaller, more []byte) {
	t.Helper()
	each(t, tensor, func(number protowire.Number, field, content []byte) {
		if number != tensorRaw || len(content) < big {
			smaller = append(smaller, field...)
			return
		}
		for _, entry := range [][2]string{{"location", name}, {"offset", strconv.Itoa(len(weights))}, {"length", strconv.Itoa(len(content))}} {
			pair := appendBytes(nil, entryKey, []byte(entry[0]))
			smaller = appendBytes(smaller, tensorExternal, appendBytes(pair, entryValue, []byte(entry[1])))
		}
		smaller = appendInt(smaller, tensorLocation, locationExternal)
		weights = append(weights, content...)
	})
	return smaller, weights
}
