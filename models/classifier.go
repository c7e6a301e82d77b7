package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/imgus/worker/models/onnxfile"
)

const (
	// ClassifierManifestName is the file that describes a classifier, beside
	// classifierFile, the one file of its model.
	ClassifierManifestName = "classifier.yaml"
	classifierFile         = "model.onnx"

	maxClassifier = 2 << 30 // bytes, what a file of protobuf may have
)

// Classifier says how a picture becomes the input of an image classifier, and
// what its output means. It is a classifier.yaml.
type Classifier struct {
	Name    string `yaml:"name"`
	License string `yaml:"license,omitempty"`
	// Resize is what the picture is scaled to first.
	Resize ClassifierResize `yaml:"resize"`
	// JPEG, if not 0, is the quality with which what goes in is written as JPEG
	// and read again, as PIL does it.
	JPEG int `yaml:"jpeg,omitempty"`
	// Input is the model's only input.
	Input ClassifierInput `yaml:"input"`
	// Output is the model's first output.
	Output ClassifierOutput `yaml:"output"`
	// Thresholds are the scores, by label, from which on a picture stands out.
	Thresholds map[string]float64 `yaml:"thresholds"`
	// Files has the SHA-256 of the model's file.
	Files map[string]string `yaml:"files"`

	dir string
}

// ClassifierResize scales to a width and a height, or the shorter side to a
// length and the other along with it.
type ClassifierResize struct {
	Width   int    `yaml:"width,omitempty"`
	Height  int    `yaml:"height,omitempty"`
	Shorter int    `yaml:"shorter,omitempty"`
	Filter  string `yaml:"filter"` // box, bilinear, bicubic, lanczos
}

// ClassifierInput is a tensor of one picture of width x height pixels, which are
// cut from the middle of the scaled one. An element is (value*scale-mean)/std of
// a channel's value, 0 to 255; means and deviations are in the order of Channels.
type ClassifierInput struct {
	Width    int        `yaml:"width"`
	Height   int        `yaml:"height"`
	Layout   string     `yaml:"layout"`   // nchw, nhwc
	Channels string     `yaml:"channels"` // rgb, bgr
	Scale    float64    `yaml:"scale"`
	Mean     [3]float64 `yaml:"mean"`
	Std      [3]float64 `yaml:"std"`
}

// ClassifierOutput is a tensor of one number for each label.
type ClassifierOutput struct {
	// Activation makes scores of the numbers: none, softmax, sigmoid.
	Activation string   `yaml:"activation"`
	Labels     []string `yaml:"labels"`
}

var validLabel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$`)

// OpenClassifier reads the manifest in a classifier's folder.
func OpenClassifier(dir string) (*Classifier, error) {
	data, err := readBounded(os.DirFS(dir), ClassifierManifestName, maxJSON)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ClassifierManifestName, err)
	}
	c := Classifier{Input: ClassifierInput{Scale: 1, Std: [3]float64{1, 1, 1}}, dir: dir}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return nil, fmt.Errorf("read %s: %w", ClassifierManifestName, err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("check %s: %w", ClassifierManifestName, err)
	}
	return &c, nil
}

func (c *Classifier) validate() error {
	var errs []error
	must := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	within := func(v, low, high int) bool { return low <= v && v <= high }
	const most = 4096
	must(validName.MatchString(c.Name), "name: required; 1 to 64 letters, digits, '.', '_' or '-'")
	in, r := c.Input, c.Resize
	must(within(in.Width, 1, most) && within(in.Height, 1, most), "input: width and height must be from 1 to %d", most)
	if r.Shorter != 0 {
		must(r.Width == 0 && r.Height == 0, "resize: give shorter, or width and height")
		must(within(r.Shorter, max(in.Width, in.Height), most), "resize: shorter must be at least the input's sides, and at most %d", most)
	} else {
		must(within(r.Width, in.Width, most) && within(r.Height, in.Height, most), "resize: width and height must be at least the input's, and at most %d", most)
	}
	must(slices.Contains([]string{"box", "bilinear", "bicubic", "lanczos"}, r.Filter), "resize: filter must be box, bilinear, bicubic or lanczos")
	must(within(c.JPEG, 0, 100), "jpeg: must be from 1 to 100, or 0 for none")
	must(in.Layout == "nchw" || in.Layout == "nhwc", "input: layout must be nchw or nhwc")
	must(in.Channels == "rgb" || in.Channels == "bgr", "input: channels must be rgb or bgr")
	for i := range 3 {
		must(finite(in.Scale) && finite(in.Mean[i]) && finite(in.Std[i]) && in.Std[i] != 0 && in.Scale != 0, "input: scale, mean and std must be numbers, scale and std not 0")
	}
	must(slices.Contains([]string{"none", "softmax", "sigmoid"}, c.Output.Activation), "output: activation must be none, softmax or sigmoid")
	labels := c.Output.Labels
	must(within(len(labels), 1, 1000), "output: labels: 1 to 1000 are needed")
	for i, label := range labels {
		must(validLabel.MatchString(label) && !slices.Contains(labels[:i], label), "output: labels: %q must be 1 to 64 plain characters, and stand once", label)
	}
	must(len(c.Thresholds) > 0, "thresholds: one is needed at least")
	for _, label := range slices.Sorted(maps.Keys(c.Thresholds)) {
		t := c.Thresholds[label]
		must(slices.Contains(labels, label), "thresholds: %q is none of the labels", label)
		must(t > 0 && t <= 1, "thresholds: %q must be above 0, and at most 1", label)
	}
	must(len(c.Files) == 1 && validDigest.MatchString(c.Files[classifierFile]), "files: must have %s with its SHA-256 in hex, and no other", classifierFile)
	return errors.Join(errs...)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Digest is the digest of the model's file, made as a Model's is.
func (c *Classifier) Digest() string { return digestOf(lines(c.Files)) }

// Read reads the model's file, and holds it to its digest and to the rules of
// onnxfile.Check. What is wrong is ErrRefused.
func (c *Classifier) Read() ([]byte, error) {
	name := filepath.Join(c.dir, classifierFile)
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read classifier: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxClassifier {
		return nil, fmt.Errorf("read classifier: %w", refuse(classifierFile, "it is no regular file, or has more than %d bytes", maxClassifier))
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read classifier: %w", err)
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(sum[:]); got != c.Files[classifierFile] {
		return nil, fmt.Errorf("read classifier: %w", refuse(classifierFile, "its SHA-256 is %s and not that of %s", got, ClassifierManifestName))
	}
	_, err = onnxfile.Check(bytes.NewReader(data), int64(len(data)), func(string) (int64, error) {
		return 0, errors.New("a classifier is one file")
	})
	if err != nil {
		return nil, fmt.Errorf("read classifier: %w", refuse(classifierFile, "%s", strings.TrimPrefix(err.Error(), onnxfile.ErrRefused.Error()+": ")))
	}
	return data, nil
}
