package rules_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/job"
)

// section is what stands below a heading of a page.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, below, found := strings.Cut(page, "\n## "+heading+"\n")
	if !found {
		t.Fatalf("there is no %q", heading)
	}
	text, _, _ := strings.Cut(below, "\n## ")
	return text
}

var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")

// Every code of an error is explained to producers and to operators. One is
// never in a record; the producers' page says so below its table.
func TestErrorCodesAreExplained(t *testing.T) {
	all := pages(t)
	for name, page := range map[string]string{"docs/jobs.md": "Errors", "docs/runbook.md": "Error codes"} {
		text := section(t, all[name], page)
		var told []job.Code
		for _, r := range row.FindAllStringSubmatch(text, -1) {
			code := job.Code(r[1])
			if !slices.Contains(job.Codes(), code) || slices.Contains(told, code) {
				t.Errorf("%s: %s is no code, or stands there twice", name, code)
			}
			told = append(told, code)
		}
		for _, code := range job.Codes() {
			below := code == job.StorageUnavailable && strings.Contains(text, "\n`"+string(code)+"` ")
			if !slices.Contains(told, code) && !below {
				t.Errorf("%s does not explain %s", name, code)
			}
		}
	}
}

// keys are the configuration's keys, the files of its secrets, and the sections.
func keys() (names, sections []string) {
	var walk func(prefix string, section reflect.Type)
	walk = func(prefix string, section reflect.Type) {
		for field := range section.Fields() {
			name := prefix + field.Tag.Get("mapstructure")
			switch field.Type {
			case reflect.TypeFor[configs.Secret]():
				names = append(names, name, name+"_file")
			default:
				if field.Type.Kind() == reflect.Struct {
					sections = append(sections, name)
					walk(name+".", field.Type)
					continue
				}
				names = append(names, name)
			}
		}
	}
	walk("", reflect.TypeFor[configs.Config]())
	return names, sections
}

var (
	spans    = regexp.MustCompile("`[^`\n]+`")
	dotted   = regexp.MustCompile(`(?:^|[^A-Za-z0-9_./-])([a-z]+(?:\.[a-z][a-z0-9_]*)+)`)
	variable = regexp.MustCompile(`\bIMGUS_[A-Z0-9_]+`)
	files    = regexp.MustCompile(`\.(go|md|json|jsonl|yaml|onnx|sh|py|tar|pem|pub|png|txt|conf)$`)
)

// A key or a variable of the configuration that a page names exists.
func TestKeysExist(t *testing.T) {
	names, sections := keys()
	var variables []string
	for _, name := range names {
		variables = append(variables, "IMGUS_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_")))
	}
	// The record has a part of a section's name: engine.device.
	for field := range reflect.TypeFor[job.EngineInfo]().Fields() {
		names = append(names, "engine."+field.Tag.Get("json"))
	}
	found := 0
	for page, text := range pages(t) {
		for _, span := range spans.FindAllString(text, -1) {
			for _, d := range dotted.FindAllStringSubmatch(span, -1) {
				name := d[1]
				head, _, _ := strings.Cut(name, ".")
				if !slices.Contains(sections, head) || files.MatchString(name) {
					continue
				}
				found++
				if !slices.Contains(names, name) && !slices.Contains(sections, name) {
					t.Errorf("%s: there is no key %s", page, name)
				}
			}
		}
		for _, v := range variable.FindAllString(text, -1) {
			if !slices.Contains(variables, v) && v != configs.ConfigVariable && !strings.HasPrefix(v, "IMGUS_TEST_") {
				t.Errorf("%s: there is no variable %s", page, v)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d keys", found)
	}
}

var (
	sentence = regexp.MustCompile("`([a-z][a-z'; ]+ [a-z'; ]+ [a-z' ]+)(?: …[^`]*)?`")
	programs = regexp.MustCompile(`^(worker|kubectl|systemctl|docker|install) `)
)

// Lines of the log that the runbook quotes are written somewhere.
func TestQuotedLogLines(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir(top, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return err
		}
		text, err := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "//") {
				source.WriteString(line)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, found := pages(t), 0
	for _, page := range []string{"docs/runbook.md", "docs/gpu.md"} {
		for _, s := range sentence.FindAllStringSubmatch(all[page], -1) {
			if programs.MatchString(s[1]) {
				continue
			}
			found++
			if !strings.Contains(source.String(), s[1]) {
				t.Errorf("%s: nothing writes %q", page, s[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d lines", found)
	}
}

var (
	alerting = regexp.MustCompile(`(?m)^ {6}- alert: (\w+)$`)
	listed   = regexp.MustCompile(`(?m)^\| <a id="(\w+)"></a>(\w+) \| [^|]+ \| [^|]+ \|$`)
	mention  = regexp.MustCompile(`\bImgus[A-Z]\w+`)
)

// Every alert is in the runbook, once, where a link finds it; and pages name no
// other.
func TestAlertsAreInTheRunbook(t *testing.T) {
	rules, err := os.ReadFile(top + "/deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts, told []string
	for _, a := range alerting.FindAllStringSubmatch(string(rules), -1) {
		alerts = append(alerts, a[1])
	}
	all := pages(t)
	for _, l := range listed.FindAllStringSubmatch(section(t, all["docs/runbook.md"], "Alerts"), -1) {
		if l[1] != l[2] || slices.Contains(told, l[1]) {
			t.Errorf("%s is named otherwise, or stands there twice", l[1])
		}
		told = append(told, l[1])
	}
	for _, a := range alerts {
		if !slices.Contains(told, a) {
			t.Errorf("the runbook has no %s", a)
		}
	}
	for page, text := range all {
		for _, m := range mention.FindAllString(text, -1) {
			if !slices.Contains(alerts, m) {
				t.Errorf("%s: there is no alert %s", page, m)
			}
		}
	}
	if len(alerts) < 20 {
		t.Errorf("only %d alerts", len(alerts))
	}
}
