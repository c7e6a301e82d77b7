package telemetry

import (
	"testing"

	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
)

// Prometheus sees no increase in a series that begins with its first event, and
// alerts rest on these.
func TestCountersStartAtZero(t *testing.T) {
	m := NewMetrics(Build{}, []string{"interactive", "batch"}, func() []string { return nil })
	series := map[string]int{}
	for _, f := range gather(t, m) {
		for _, metric := range f.GetMetric() {
			if c := metric.GetCounter(); c != nil && c.GetValue() == 0 {
				series[f.GetName()]++
			}
		}
	}
	for name, want := range map[string]int{
		"imgus_dropped_total": 2, "imgus_recovered_total": 2, "imgus_handed_back_total": 2, "imgus_parked_total": 2 * 2, "imgus_retries_total": 2 * 4, // codes that are not final
		"imgus_outages_total": 2, "imgus_swept_total": len(janitor.Kinds()), "imgus_jobs_total": 2 * len(job.Kinds()),
	} {
		if series[name] != want {
			t.Errorf("%s has %d series at zero, not %d", name, series[name], want)
		}
	}
}
