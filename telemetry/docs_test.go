package telemetry

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented is a row of a table of docs/metrics.md: name, type, labels, meaning
// and what to do.
var documented = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (counter|gauge|histogram) \\| ([^|]*) \\| ([^|]+) \\|([^|]*)\\|$")

func TestDocs(t *testing.T) {
	m := full(t)
	has := families(t, m)
	page := string(read(t, "docs", "metrics.md"))
	told := map[string]bool{}
	for _, row := range documented.FindAllStringSubmatch(page, -1) {
		name, kind, labels := row[1], row[2], strings.Fields(strings.NewReplacer("`", "", ",", " ").Replace(row[3]))
		slices.Sort(labels)
		f, ok := has[name]
		switch {
		case told[name]:
			t.Errorf("%s stands there twice", name)
		case !ok:
			t.Errorf("there is no %s", name)
		case f.kind != kind || fmt.Sprint(f.labels) != fmt.Sprint(labels):
			t.Errorf("%s is a %s of %v; the page says %s of %v", name, f.kind, f.labels, kind, labels)
		}
		told[name] = true
	}
	for _, name := range described(m) {
		if !told[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	alerts := string(read(t, "deploy", "prometheus", "alerts.yaml"))
	for _, name := range regexp.MustCompile(`Imgus[A-Za-z]+`).FindAllString(page, -1) {
		if !strings.Contains(alerts, "alert: "+name+"\n") {
			t.Errorf("there is no alert %s", name)
		}
	}
}

var metricInText = regexp.MustCompile(`\bimgus_[a-z0-9_]+`)

// The other pages name no metric and no label that there is not.
func TestOtherPages(t *testing.T) {
	has := families(t, full(t))
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "../README.md", "../ARCHITECTURE.md", "../CHANGELOG.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricInText.FindAllString(string(text), -1) {
			found++
			if _, whole := has[name]; whole {
				continue
			}
			if _, ok := find(has, name); !ok {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
		for _, s := range selector.FindAllString(string(text), -1) {
			checkQuery(t, has, s)
		}
	}
	if found < 80 {
		t.Errorf("only %d metrics", found)
	}
}

// The page names each value of the label that the sweep counts by.
func TestSweptKindsAreDocumented(t *testing.T) {
	page := string(read(t, "docs", "metrics.md"))
	for _, kind := range sweptKinds {
		if !strings.Contains(page, "`"+kind+"`") {
			t.Errorf("the page does not explain %s", kind)
		}
	}
}
