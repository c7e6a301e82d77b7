package telemetry

import (
	"fmt"
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
