package configs

import (
	"reflect"
	"strings"
)

const envPrefix = "IMGUS_"

// key is one setting: a leaf of Config.
type key struct {
	name     string // the path with dots: redis.tls.enabled
	variable string // IMGUS_REDIS_TLS_ENABLED
	typ      reflect.Type
	value    any // in the Config that was walked
}

// secret tells whether the key may also be given as a file that holds it.
func (k key) secret() bool { return k.typ == reflect.TypeFor[Secret]() }

// keys walks the configuration in the order of its fields, so that keys,
// defaults and variables come from the one struct.
func keys(c Config) []key {
	return appendKeys(nil, "", reflect.ValueOf(c))
}

func appendKeys(list []key, prefix string, section reflect.Value) []key {
	for field, value := range section.Fields() {
		name := prefix + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			list = appendKeys(list, name+".", value)
			continue
		}
		variable := envPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
		list = append(list, key{name: name, variable: variable, typ: field.Type, value: value.Interface()})
	}
	return list
}

// schema answers what a name in the file or in the environment means.
type schema struct {
	keys     []key
	byName   map[string]key
	sections map[string][]string // "" and every path with keys below it, to the names there
}

func newSchema(c Config) schema {
	s := schema{keys: keys(c), byName: map[string]key{}, sections: map[string][]string{}}
	for _, k := range s.keys {
		s.byName[k.name] = k
		section, name := "", k.name
		for {
			head, rest, nested := strings.Cut(name, ".")
			if known := s.sections[section]; len(known) == 0 || known[len(known)-1] != head {
				s.sections[section] = append(known, head)
			}
			if !nested {
				break
			}
			section, name = join(section, head), rest
		}
	}
	return s
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}
