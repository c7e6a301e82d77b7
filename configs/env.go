package configs

import "strings"

// ConfigVariable names the configuration file; TestPrefix is left to the tests.
const (
	ConfigVariable = envPrefix + "CONFIG"
	TestPrefix     = envPrefix + "TEST_"
)

// readEnv reads the variables that are ours out of an environment.
func (s schema) readEnv(environ []string, p *Problems) layer {
	byVariable := make(map[string]key, len(s.keys))
	for _, k := range s.keys {
		byVariable[k.variable] = k
	}
	l, secrets := newLayer(), secretFiles{}
	for _, entry := range environ {
		variable, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(variable, envPrefix) || variable == ConfigVariable || strings.HasPrefix(variable, TestPrefix) {
			continue
		}
		base, isFile := strings.CutSuffix(variable, "_FILE")
		if k, ok := byVariable[variable]; ok {
			value, err := parse(k.typ, text)
			if err != nil {
				p.add(k.name, variable, "%v", err)
				continue
			}
			l.set(k.name, variable, value)
		} else if k, ok := byVariable[base]; ok && isFile && k.secret() {
			secrets[k.name] = secretFile{name: variable, source: variable, path: text}
		} else {
			p.add(variable, "", "unknown variable%s", serviceHint(variable))
		}
	}
	secrets.resolve(l, p)
	return l
}

// serviceHint explains the variables that Kubernetes makes for each service:
// one called imgus-redis gives IMGUS_REDIS_SERVICE_HOST and more.
func serviceHint(variable string) string {
	if strings.Contains(variable, "_SERVICE_") || strings.Contains(variable, "_PORT") {
		return "; if Kubernetes made it, set enableServiceLinks: false in the pod"
	}
	return ""
}

// lookup finds a variable; as in a process, the last of several counts.
func lookup(environ []string, variable string) string {
	found := ""
	for _, entry := range environ {
		if name, text, _ := strings.Cut(entry, "="); name == variable {
			found = text
		}
	}
	return found
}
