package configs

import (
	"maps"

	"github.com/spf13/viper"
)

// Sources tells for each key where its value came from: default, file:line or
// the name of a variable.
type Sources map[string]string

const fromDefault = "default"

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
// the Config is then as far as it could be read.
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
		file := s.readFile(path, problems)
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
	maps.Copy(s, l.sources)
}
