package telemetry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// metricName finds the names of metrics in PromQL: ours, Go's and the process's.
var metricName = regexp.MustCompile(`\b(?:imgus|go|process)_[a-z0-9_]+`)

// selector finds a metric and the labels that it is asked for by.
var (
	selector = regexp.MustCompile(`\b(imgus_[a-z0-9_]+)\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// outside are the labels that Prometheus adds.
var outside = []string{"instance", "job", "le"}

// checkQuery reports what a query names that there is not.
func checkQuery(t *testing.T, has map[string]family, query string) {
	t.Helper()
	found := metricName.FindAllString(query, -1)
	if len(found) == 0 && !strings.HasPrefix(query, "up{") {
		t.Errorf("no metric in %s", query)
	}
	var labels []string
	for _, name := range found {
		f, ok := find(has, name)
		if !ok {
			t.Errorf("there is no %s, in %s", name, query)
		}
		labels = append(labels, f.labels...)
	}
	for _, s := range selector.FindAllStringSubmatch(query, -1) {
		f, _ := find(has, s[1])
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(f.labels, l[1]) && !slices.Contains(outside, l[1]) {
				t.Errorf("%s has no label %s, in %s", s[1], l[1], query)
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		for by := range strings.SplitSeq(g[1], ",") {
			if by = strings.TrimSpace(by); !slices.Contains(labels, by) && !slices.Contains(outside, by) {
				t.Errorf("no metric has the label %s, in %s", by, query)
			}
		}
	}
}

func find(has map[string]family, name string) (family, bool) {
	if f, ok := has[name]; ok {
		return f, f.kind != "histogram" // which is asked for by its parts
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && has[base].kind == "histogram" {
			return has[base], true
		}
	}
	return family{}, false
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestAlerts(t *testing.T) {
	has := families(t, full(t))
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(read(t, "deploy", "prometheus", "alerts.yaml"))))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			t.Run(r.Alert, func(t *testing.T) {
				if !strings.HasPrefix(r.Alert, "Imgus") || seen[r.Alert] {
					t.Error("the name is not ours, or not the only one")
				}
				seen[r.Alert] = true
				if s := r.Labels["severity"]; s != "page" && s != "ticket" {
					t.Errorf("severity is %q", s)
				}
				if r.Annotations["summary"] == "" || len(r.Annotations["runbook"]) < 40 {
					t.Error("it does not say what to do")
				}
				checkQuery(t, has, r.Expr)
			})
		}
	}
	if len(seen) < 15 {
		t.Errorf("%d alerts", len(seen))
	}
}

// What has the workers scraped gives them the name of a job by which the alerts
// know them, and the port of their metrics.
func TestScraping(t *testing.T) {
	named := regexp.MustCompile(`up\{job=~"([^"]+)"\}`).FindSubmatch(read(t, "deploy", "prometheus", "alerts.yaml"))
	if named == nil {
		t.Fatal("no alert goes by the name of the job")
	}
	jobs := regexp.MustCompile("^(?:" + string(named[1]) + ")$")
	var scrape struct {
		Configs []struct {
			Name    string                       `yaml:"job_name"`
			Targets []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(read(t, "deploy", "prometheus", "scrape.yaml"), &scrape); err != nil {
		t.Fatal(err)
	}
	if len(scrape.Configs) != 1 || !jobs.MatchString(scrape.Configs[0].Name) || len(scrape.Configs[0].Targets) == 0 {
		t.Errorf("it scrapes %+v", scrape)
	}
	var deployment struct {
		Spec struct {
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					Containers []struct{ Ports []struct{ Name string } }
				}
			}
		}
	}
	var monitor struct {
		Metadata struct{ Namespace string }
		Spec     struct {
			JobLabel string `yaml:"jobLabel"`
			Selector struct {
				Labels map[string]string `yaml:"matchLabels"`
			}
			Endpoints []struct{ Port string } `yaml:"podMetricsEndpoints"`
		}
	}
	var kustomization struct {
		Namespace string
		Resources []string
	}
	for file, into := range map[string]any{"deployment.yaml": &deployment, "podmonitor.yaml": &monitor, "kustomization.yaml": &kustomization} {
		// They have more than what is looked at here.
		if err := yaml.Unmarshal(read(t, "deploy", "kubernetes", file), into); err != nil {
			t.Fatal(err)
		}
	}
	pod := deployment.Spec.Template
	if job := pod.Metadata.Labels[monitor.Spec.JobLabel]; !jobs.MatchString(job) {
		t.Errorf("the operator calls the job %q", job)
	}
	if len(monitor.Spec.Selector.Labels) == 0 || monitor.Metadata.Namespace != kustomization.Namespace {
		t.Errorf("it selects %+v in %s", monitor.Spec.Selector.Labels, monitor.Metadata.Namespace)
	}
	for label, value := range monitor.Spec.Selector.Labels {
		if pod.Metadata.Labels[label] != value {
			t.Errorf("no pod has %s=%s", label, value)
		}
	}
	if at := monitor.Spec.Endpoints; len(at) != 1 || at[0].Port != pod.Spec.Containers[0].Ports[0].Name {
		t.Errorf("it asks %+v", at)
	}
	if slices.Contains(kustomization.Resources, "podmonitor.yaml") {
		t.Error("a cluster without the operator would refuse the kind")
	}
}

func TestDashboard(t *testing.T) {
	m := full(t)
	has := families(t, m)
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	data := read(t, "deploy", "grafana", "imgus-worker.json")
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, has, target.Expr)
		}
	}
	// And it shows all there is.
	for _, name := range described(m) {
		if !strings.Contains(string(data), name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// The checks above find what they are for.
func TestCheckQuery(t *testing.T) {
	has := families(t, full(t))
	for query, ok := range map[string]bool{
		`sum(rate(imgus_jobs_total[5m]))`:                  true,
		`sum by (le) (rate(imgus_job_seconds_bucket[5m]))`: true,
		`imgus_job_total`:                                  false,
		`imgus_job_seconds`:                                false,
		`imgus_ready_bucket`:                               false,
		`imgus_jobs_total{colour="red"}`:                   false,
		`sum by (colour) (imgus_jobs_total)`:               false,
		`imgus_jobs_total{state="done",instance=~"a"} > 0`: true,
	} {
		probe := &testing.T{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			checkQuery(probe, has, query)
		}()
		<-done
		if probe.Failed() == ok {
			t.Errorf("%s: passes is %v", query, !ok)
		}
	}
}
