// Command load loads one ONNX model as the engine does, and prints the seconds
// it took and the process's peak memory in MiB.
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/models/onnxfile"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: load LIBONNXRUNTIME MODEL.onnx")
		os.Exit(2)
	}
	if err := load(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func load(library, model string) error {
	rt, err := onnx.Open(library)
	if err != nil {
		return err
	}
	defer rt.Close()
	start := time.Now()
	session, err := rt.Load(onnx.Source{Path: model}, onnx.Options{Device: onnx.CPU}, func(m *onnxfile.Model) (bool, error) {
		return m.VectorTimestep("timestep")
	})
	if err != nil {
		return err
	}
	defer session.Close()
	took := time.Since(start)
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	fmt.Printf("%.2f %d\n", took.Seconds(), usage.Maxrss/1024)
	return nil
}
