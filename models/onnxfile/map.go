package onnxfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Map maps a file into memory for Parse, so that gigabytes of weights are not
// read to look at the graph. The data is valid until unmap.
func Map(path string) (data []byte, unmap func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("map model: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("map model: %w", err)
	}
	if info.Size() == 0 || !info.Mode().IsRegular() {
		return nil, nil, errors.New("map model: it is empty or no regular file")
	}
	if data, err = unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE); err != nil {
		return nil, nil, fmt.Errorf("map model: %w", err)
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}
