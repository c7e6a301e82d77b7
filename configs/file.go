package configs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration or secret file: more is a wrong path.
const maxFile = 1 << 20

// layer is what one source sets: typed values and where each was written.
type layer struct {
	values  map[string]any
	sources map[string]string
}

func newLayer() layer { return layer{values: map[string]any{}, sources: map[string]string{}} }

func (l layer) set(name, source string, value any) {
	l.values[name] = value
	l.sources[name] = source
}

// readFile reads the YAML file at path. Names are matched exactly and values
// keep the type that they are written in, which viper alone would not do: it
// lower-cases names, skips unknown ones and converts whatever it can. It reports
// whether the file can be read as YAML at all.
func (s schema) readFile(path string, p *Problems) (l layer, ok bool) {
	r := fileReader{schema: s, name: path, layer: newLayer(), problems: p, secrets: secretFiles{}}
	data, err := readBounded(path)
	if err != nil {
		p.add("config", path, "%v", err)
		return r.layer, false
	}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF): // an empty file sets nothing
		return r.layer, true
	case err != nil:
		p.add("config", r.name, "is not YAML: %s", withoutQuotes(err))
		return r.layer, false
	}
	r.section("", document.Content[0])
	r.secrets.resolve(r.layer, p)
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		p.add("config", r.name, "must be a single YAML document")
	}
	return r.layer, true
}

var quoted = regexp.MustCompile(`['"].*['"]`)

// withoutQuotes drops what the parser quotes from the file: an unquoted
// password that starts with * reads as the name of an anchor.
func withoutQuotes(err error) string {
	return quoted.ReplaceAllString(strings.TrimPrefix(err.Error(), "yaml: "), "…")
}

type fileReader struct {
	schema
	name     string
	layer    layer
	problems *Problems
	secrets  secretFiles
}

func (r fileReader) at(node *yaml.Node) string { return fmt.Sprintf("%s:%d", r.name, node.Line) }

func (r fileReader) section(path string, node *yaml.Node) {
	node = target(node)
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		r.problems.add(cmp.Or(path, "config"), r.at(node), "must be a section with the keys %s", strings.Join(r.sections[path], ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		label, value := node.Content[i], node.Content[i+1]
		name := join(path, label.Value)
		if label.Kind != yaml.ScalarNode || strings.Contains(label.Value, ".") {
			r.problems.add(cmp.Or(path, "config"), r.at(label), "a key must be one plain word")
			continue
		}
		if seen[name] {
			r.problems.add(name, r.at(label), "given twice")
			continue
		}
		seen[name] = true
		r.entry(path, name, label, value)
	}
}

func (r fileReader) entry(section, name string, label, value *yaml.Node) {
	if _, ok := r.sections[name]; ok {
		r.section(name, value)
		return
	}
	if k, ok := r.byName[name]; ok {
		r.leaf(k, target(value))
		return
	}
	if k, ok := r.secretFile(name); ok {
		if node := target(value); node.Kind == yaml.ScalarNode {
			r.secrets[k.name] = secretFile{name: name, source: r.at(node), path: node.Value}
		} else {
			r.problems.add(name, r.at(node), "must be the path of a file")
		}
		return
	}
	r.problems.add(name, r.at(label), "unknown key; here may stand %s", strings.Join(r.sections[section], ", "))
}

// secretFile finds the secret x that the name x_file stands for.
func (s schema) secretFile(name string) (key, bool) {
	base, isFile := strings.CutSuffix(name, "_file")
	k, known := s.byName[base]
	return k, isFile && known && k.secret()
}

func (r fileReader) leaf(k key, node *yaml.Node) {
	if isNull(node) {
		return
	}
	value, err := decode(k.typ, node)
	if err != nil {
		r.problems.add(k.name, r.at(node), "%v", err)
		return
	}
	r.layer.set(k.name, r.at(node), value)
}

// decode reads a value of the file. Numbers and flags must be written as such,
// text that looks like one must be quoted.
func decode(typ reflect.Type, node *yaml.Node) (any, error) {
	switch typ.Kind() {
	case reflect.Map:
		return decodeMap(typ, node)
	case reflect.Slice:
		return decodeList(typ, node)
	}
	if node.Kind != yaml.ScalarNode {
		return nil, errors.New("must be a single value")
	}
	tag := node.ShortTag()
	switch {
	case typ.Kind() == reflect.String && tag != "!!str":
		return nil, errors.New("must be text: put it in quotes")
	case typ.Kind() == reflect.Bool && tag != "!!bool":
		return nil, errors.New("must be true or false")
	case typ.Kind() == reflect.Int && tag != "!!int":
		return nil, errors.New("must be a whole number")
	case typ.Kind() == reflect.Float64 && tag != "!!int" && tag != "!!float":
		return nil, errors.New("must be a number")
	}
	return parse(typ, node.Value)
}

func decodeList(typ reflect.Type, node *yaml.Node) (any, error) {
	list := reflect.MakeSlice(typ, 0, len(node.Content))
	switch node.Kind {
	case yaml.ScalarNode: // one item needs no brackets
		return reflect.Append(list, reflect.ValueOf(node.Value)).Interface(), nil
	case yaml.SequenceNode:
		for _, item := range node.Content {
			if item = target(item); item.Kind != yaml.ScalarNode {
				return nil, errors.New("must be a list of single values")
			}
			list = reflect.Append(list, reflect.ValueOf(item.Value))
		}
		return list.Interface(), nil
	default:
		return nil, errors.New("must be a list")
	}
}

func decodeMap(typ reflect.Type, node *yaml.Node) (any, error) {
	if node.Kind != yaml.MappingNode {
		return nil, errors.New("must be a mapping of names to values")
	}
	entries := reflect.MakeMap(typ)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, item := node.Content[i], target(node.Content[i+1])
		if name.Kind != yaml.ScalarNode || item.Kind != yaml.ScalarNode {
			return nil, errors.New("must be a mapping of names to single values")
		}
		if entries.MapIndex(reflect.ValueOf(name.Value)).IsValid() {
			return nil, errors.New("holds a name twice")
		}
		value, err := any(item.Value), error(nil)
		if typ.Elem().Kind() == reflect.Int {
			value, err = decode(typ.Elem(), item)
		}
		if err != nil {
			return nil, fmt.Errorf("each value %w", err)
		}
		entries.SetMapIndex(reflect.ValueOf(name.Value), reflect.ValueOf(value))
	}
	return entries.Interface(), nil
}

// target follows an alias. Recursion ends with the schema, so an alias can
// neither loop nor multiply.
func target(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" }

// readBounded reads a regular file of a sensible size: a pipe could block for
// ever, a device never end.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("must be a regular file")
	}
	if info.Size() > maxFile {
		return nil, errors.New("must be at most 1 MiB")
	}
	return os.ReadFile(path)
}
