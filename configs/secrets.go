package configs

import (
	"maps"
	"slices"
	"strings"
)

// secretFile is a secret given as x_file: the path of a file that holds it.
type secretFile struct {
	name, source, path string
}

// secretFiles are the secret files of one layer, by the secret's key.
type secretFiles map[string]secretFile

// resolve reads the files into the layer. Within one layer a secret is given
// one way; a later layer replaces an earlier one, whichever way each chose.
func (s secretFiles) resolve(l layer, p *Problems) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		file := s[name]
		if file.path == "" {
			continue
		}
		if direct, _ := l.values[name].(Secret); direct != "" {
			p.add(name, file.source, "given directly and as %s: choose one", file.name)
			continue
		}
		data, err := readBounded(file.path)
		switch text := strings.TrimSpace(string(data)); {
		case err != nil:
			p.add(file.name, file.source, "%v", err)
		case text == "":
			p.add(file.name, file.source, "the file is empty")
		default:
			l.set(name, file.source+" from "+file.path, Secret(text))
		}
	}
}
