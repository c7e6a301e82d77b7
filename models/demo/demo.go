// Package demo holds the demo model inside the binary: a small, really trained
// latent diffusion model that draws one coloured shape from a caption.
package demo

import (
	"embed"
	"io/fs"
)

// Name is the model's name in jobs and in the catalogue.
const Name = "demo"

// Prompt is a caption of the kind that the model was trained on.
const Prompt = "a large yellow star on a purple background"

//go:embed model
var files embed.FS

// Files are the model's files in the layout of optimum, with a model.yaml.
func Files() fs.FS {
	sub, err := fs.Sub(files, "model")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}
