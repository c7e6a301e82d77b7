package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// earlier are the rows of an earlier run, to compare with.
type earlier struct {
	rows     []measured
	measured map[string]bool // the cases that this run has too
}

// changes are how much more a figure is than that of an earlier run, in percent;
// nil where the earlier one is none.
type changes struct {
	Load            *float64 `json:"load_percent,omitempty"`
	Least           *float64 `json:"latency_least_percent,omitempty"`
	Median          *float64 `json:"latency_median_percent,omitempty"`
	Most            *float64 `json:"latency_most_percent,omitempty"`
	Step            *float64 `json:"step_percent,omitempty"`
	ImagesPerMinute *float64 `json:"images_per_minute_percent,omitempty"`
}

// readEarlier reads the output of --json; without a file there are no rows.
func readEarlier(path string) (*earlier, error) {
	e := &earlier{measured: map[string]bool{}}
	if path == "" {
		return e, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, usage("read earlier run: %w", err)
	}
	defer file.Close()
	for dec := json.NewDecoder(file); dec.More(); {
		var m measured
		if err := dec.Decode(&m); err != nil {
			return nil, usage("read earlier run: %w", err)
		}
		e.rows = append(e.rows, m)
	}
	if len(e.rows) == 0 {
		return nil, usage("read earlier run: %s holds no row", path)
	}
	return e, nil
}

// compare gives a row its changes since the last earlier one that measured the
// same, or says what keeps it from being compared.
func (e *earlier) compare(m *measured) {
	if len(e.rows) == 0 {
		return
	}
	e.measured[m.Case] = true
	m.NotCompared = "the earlier run has no such case"
	for _, old := range slices.Backward(e.rows) {
		if old.Case != m.Case {
			continue
		}
		if differences := m.unlike(old); len(differences) > 0 {
			m.NotCompared = strings.Join(differences, ", ")
			continue
		}
		m.NotCompared = ""
		m.Change = &changes{
			percent(float64(old.Load), float64(m.Load)), percent(old.Least, m.Least), percent(old.Median, m.Median),
			percent(old.Most, m.Most), percent(old.Step, m.Step), percent(old.ImagesPerMinute, m.ImagesPerMinute),
		}
		return
	}
}

// unlike lists what makes two rows of a case measurements of different things.
func (m measured) unlike(old measured) (differences []string) {
	for _, d := range []struct {
		what     string
		now, old any
	}{
		{"model", m.Model, old.Model},
		{"width", m.Width, old.Width},
		{"height", m.Height, old.Height},
		{"images", m.Images, old.Images},
		{"steps", m.Steps, old.Steps},
		{"scheduler", m.Scheduler, old.Scheduler},
		{"device", m.Device, old.Device},
		{"devices", m.Devices, old.Devices},
		{"provider", m.Provider, old.Provider},
	} {
		if d.now != d.old {
			differences = append(differences, fmt.Sprintf("%s %v, earlier %v", d.what, d.now, d.old))
		}
	}
	return differences
}

// left are the cases of the earlier run alone.
func (e *earlier) left() []string {
	var cases []string
	for _, old := range e.rows {
		if !e.measured[old.Case] && !slices.Contains(cases, old.Case) {
			cases = append(cases, old.Case)
		}
	}
	return cases
}

func percent(before, now float64) *float64 {
	if before == 0 {
		return nil
	}
	return new(100 * (now/before - 1))
}

// row prints the changes below the figures.
func (c *changes) row(table *tabwriter.Writer) {
	fmt.Fprint(table, "change\t")
	for _, p := range []*float64{c.Load, c.Median, c.Least, c.Most, c.Step, c.ImagesPerMinute} {
		text := "-"
		if p != nil {
			text = fmt.Sprintf("%+.1f %%", *p)
		}
		fmt.Fprint(table, "\t", text)
	}
	fmt.Fprintln(table, "\t\t")
}
