package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// Sources tells for each key where its value came from: default, file:line or
// the name of a variable, which may be over one of these.
type Sources map[string]string

const (
	fromDefault = "default"
	over        = " over "
)

// Shadowed lists the keys of which a variable wins over the file, in order, each
// with its source.
func (s Sources) Shadowed() []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if strings.Contains(s[name], over) {
			list = append(list, name+" from "+s[name])
		}
	}
	return list
}

// Need is something that a command cannot do without.
type Need int

// NeedStorage demands a storage that is fully described: the defaults name no
// bucket, and commands that work without one load without this need.
const NeedStorage Need = iota + 1

// NeedSubjectKey demands privacy.subject_key.
const NeedSubjectKey Need = NeedStorage + 1

// Load reads the configuration: the defaults, over them the YAML file at path
// (empty: the one that IMGUS_CONFIG names, if any), over that the IMGUS_
// variables of environ. The error is a *Problems with everything that is wrong;
// the Config is then as far as it could be read. Of a file that cannot be read it
// says no more: what is missing in it would only confuse.
func Load(path string, environ []string, needs ...Need) (Config, Sources, error) {
	s := newSchema(Default())
	problems := &Problems{}
	path = File(path, environ)

	// viper lays the layers over each other. It is given typed values only, so
	// none of its conversions, its lower-casing or its merging of maps applies.
	v := viper.New()
	sources := Sources{}
	for _, k := range s.keys {
		v.SetDefault(k.name, k.value)
		sources[k.name] = fromDefault
	}
	if path != "" {
		file, ok := s.readFile(path, problems)
		if !ok {
			return Default(), sources, problems
		}
		if err := v.MergeConfigMap(file.values); err != nil {
			problems.add("config", path, "%v", err)
		}
		sources.add(file)
	}
	env := s.readEnv(environ, problems)
	for name, value := range env.values {
		v.Set(name, value)
	}
	sources.add(env)

	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		problems.add("config", "", "%v", err)
	}
	c.validate(sources, problems, needs)
	return c, sources, problems.err()
}

func (s Sources) add(l layer) {
	for name, source := range l.sources {
		if s[name] != fromDefault {
			source += over + s[name]
		}
		s[name] = source
	}
}
