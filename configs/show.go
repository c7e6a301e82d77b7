package configs

// Setting is one key as it stands. Value is written as in the environment.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Show lists every key in the order of the file, with secrets hidden.
func Show(c Config, sources Sources) []Setting {
	all := keys(c)
	settings := make([]Setting, 0, len(all))
	for _, k := range all {
		text := format(k.value)
		if k.name == "redis.url" {
			text = c.Redis.URL.redacted()
		}
		settings = append(settings, Setting{Key: k.name, Value: text, Source: sources[k.name]})
	}
	return settings
}
