package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/inference/onnx"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of the worker, of Go and of ONNX Runtime",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version     string   `json:"version"`
				Commit      string   `json:"commit"`
				Go          string   `json:"go"`
				Platform    string   `json:"platform"`
				ONNXRuntime string   `json:"onnxruntime"`
				Providers   []string `json:"providers"`
			}{version, commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, "", []string{}}
			c, _ := a.load() // what is wrong with the rest of it does not matter here
			if library, err := findLibrary(c.Engine.Library); err == nil {
				if rt, err := onnx.Open(library); err == nil {
					v.ONNXRuntime, v.Providers = rt.Version(), rt.Providers()
					if err := rt.Close(); err != nil {
						return err
					}
				}
			}
			if a.json {
				return a.print(v)
			}
			runtimeVersion := v.ONNXRuntime
			if runtimeVersion == "" {
				runtimeVersion = "not found"
			}
			_, err := fmt.Fprintf(a.stdout, "worker %s (commit %s)\n%s %s\nONNX Runtime %s %v\n", v.Version, v.Commit, v.Go, v.Platform, runtimeVersion, v.Providers)
			return err
		},
	}
}
