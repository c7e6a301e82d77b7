package models

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/imgus/worker/job"
)

// ManifestName is the file in a model's folder that describes it.
const ManifestName = "model.yaml"

// Manifest is a model.yaml.
type Manifest struct {
	Name    string `yaml:"name"`
	Family  Family `yaml:"family"`
	License string `yaml:"license,omitempty"`
	// Defaults stand in for fields that a job leaves out.
	Defaults Defaults `yaml:"defaults,omitempty"`
	// Limits narrow what a job may ask of this model.
	Limits job.Limits `yaml:"limits,omitempty"`
	// Files has the SHA-256 of every file but the manifest itself.
	Files map[string]string `yaml:"files,omitempty"`
}

// Defaults are fields of a job; a nil field has no default here.
type Defaults struct {
	Width              *int     `yaml:"width,omitempty"`
	Height             *int     `yaml:"height,omitempty"`
	Steps              *int     `yaml:"steps,omitempty"`
	GuidanceScale      *float64 `yaml:"guidance_scale,omitempty"`
	GuidanceRescale    *float64 `yaml:"guidance_rescale,omitempty"`
	ImageGuidanceScale *float64 `yaml:"image_guidance_scale,omitempty"`
	Scheduler          *string  `yaml:"scheduler,omitempty"`
	Strength           *float64 `yaml:"strength,omitempty"`
	ClipSkip           *int     `yaml:"clip_skip,omitempty"`
	NegativePrompt     *string  `yaml:"negative_prompt,omitempty"`
}

// over returns d with what is missing taken from other.
func (d Defaults) over(other Defaults) Defaults {
	return Defaults{
		Width: first(d.Width, other.Width), Height: first(d.Height, other.Height), Steps: first(d.Steps, other.Steps),
		GuidanceScale: first(d.GuidanceScale, other.GuidanceScale), GuidanceRescale: first(d.GuidanceRescale, other.GuidanceRescale),
		ImageGuidanceScale: first(d.ImageGuidanceScale, other.ImageGuidanceScale), Scheduler: first(d.Scheduler, other.Scheduler),
		Strength: first(d.Strength, other.Strength), ClipSkip: first(d.ClipSkip, other.ClipSkip),
		NegativePrompt: first(d.NegativePrompt, other.NegativePrompt),
	}
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

var (
	validName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	validDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// readManifest reads model.yaml; absent is true when there is none.
func readManifest(fsys fs.FS) (m Manifest, absent bool, err error) {
	data, err := readBounded(fsys, ManifestName, maxJSON)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, true, nil
	}
	if err != nil {
		return Manifest{}, false, fmt.Errorf("read %s: %w", ManifestName, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&m); err != nil {
		return Manifest{}, false, fmt.Errorf("read %s: %w", ManifestName, err)
	}
	return m, false, m.validate()
}

func (m Manifest) validate() error {
	var errs []error
	if !validName.MatchString(m.Name) {
		errs = append(errs, errors.New("name: required; 1 to 64 letters, digits, '.', '_' or '-'"))
	}
	if !slices.Contains(Families(), m.Family) {
		errs = append(errs, fmt.Errorf("family: must be one of %v", Families()))
	}
	for _, path := range slices.Sorted(maps.Keys(m.Files)) {
		if !fs.ValidPath(path) || path == ManifestName || !validDigest.MatchString(m.Files[path]) {
			errs = append(errs, fmt.Errorf("files: %q needs a clean path and a SHA-256 in hex", path))
		}
	}
	if m.Defaults.Scheduler != nil && !slices.Contains(job.Schedulers(), *m.Defaults.Scheduler) {
		errs = append(errs, fmt.Errorf("defaults: scheduler: must be one of %v", job.Schedulers()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("check %s: %w", ManifestName, err)
	}
	return nil
}
