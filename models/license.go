package models

import (
	"bytes"
	"io/fs"
	"strings"

	"go.yaml.in/yaml/v3"
)

// findLicense gives the licence of a model by its model card, or by the title
// of its licence file, in the short names of model cards; "" if neither tells.
func findLicense(fsys fs.FS) string {
	if data, err := readBounded(fsys, "README.md", maxJSON); err == nil {
		if license := cardLicense(data); license != "" {
			return license
		}
	}
	for _, name := range []string{"LICENSE", "LICENSE.md", "LICENSE.txt"} {
		if data, err := readBounded(fsys, name, maxJSON); err == nil {
			return titledLicense(data)
		}
	}
	return ""
}

// cardLicense reads the front matter of a model card: YAML between two lines of
// three dashes.
func cardLicense(card []byte) string {
	card = bytes.ReplaceAll(card, []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(card, []byte("---\n"))
	if !ok {
		return ""
	}
	front, _, ok := bytes.Cut(rest, []byte("\n---"))
	if !ok {
		return ""
	}
	var fields struct {
		License string `yaml:"license"`
		Name    string `yaml:"license_name"`
	}
	if yaml.Unmarshal(front, &fields) != nil {
		return ""
	}
	license := fields.License
	if license == "other" && fields.Name != "" {
		license = fields.Name
	}
	if len(license) > 100 || !printable(license) {
		return ""
	}
	return license
}

// titledLicense knows the licences of this family's models by their titles.
func titledLicense(text []byte) string {
	title := strings.ToLower(string(text[:min(len(text), 500)]))
	for _, l := range []struct{ title, name string }{
		{"apache license", "apache-2.0"}, {"mit license", "mit"}, {"creativeml open rail++-m", "openrail++"},
		{"creativeml open rail-m", "creativeml-openrail-m"}, {"creativeml open rail m", "creativeml-openrail-m"},
	} {
		if strings.Contains(title, l.title) {
			return l.name
		}
	}
	return ""
}
