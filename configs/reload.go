package configs

import (
	"reflect"
	"slices"
)

// live are the keys whose change applies to a running worker. worker.yaml says
// so of each, and a test compares.
var live = []string{
	"log.level", "job.max_attempts", "job.timeout", "job.shutdown_grace", "record.prompt", "safety.prompt.policy", "safety.prompt.list",
	"retention.inputs", "retention.results", "retention.failed", "tracing.sample",
}

// Live reports whether a change of the key applies to a running worker; of
// another it needs a restart.
func Live(key string) bool { return slices.Contains(live, key) }

// Changed lists the keys in which two configurations differ, in the file's
// order.
func Changed(before, after Config) []string {
	var names []string
	now := keys(after)
	for i, k := range keys(before) {
		if !reflect.DeepEqual(k.value, now[i].value) {
			names = append(names, k.name)
		}
	}
	return names
}

// File is what Load reads: path, or else what IMGUS_CONFIG names; "" for none.
func File(path string, environ []string) string {
	if path == "" {
		path = lookup(environ, ConfigVariable)
	}
	return path
}
