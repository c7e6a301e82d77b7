package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A probe is asked every probeEvery, and has probePatience to answer: together
// less than the two seconds within which readiness falls. One that does not even
// end then is silent.
const (
	probeEvery    = time.Second
	probePatience = 800 * time.Millisecond
)

var (
	errNotYet = errors.New("not there yet; the worker is starting")
	errSilent = errors.New("it does not answer")
)

// Health is whether the worker can do jobs, check by check. It is ready when
// all of them are well.
type Health struct {
	log *slog.Logger

	mu     sync.Mutex
	checks map[string]func() error
	probes []*probe
	notes  *cached[map[string]string]
}

// probe is a check that has to ask somebody.
type probe struct {
	ask func(context.Context) error

	mu       sync.Mutex
	underWay bool
	at       time.Time // of the last answer
	err      error
}

// NewHealth makes a Health whose checks have these names. None is well before
// it is added.
func NewHealth(log *slog.Logger, names ...string) *Health {
	h := &Health{log: log, checks: map[string]func() error{}}
	for _, name := range names {
		h.checks[name] = func() error { return errNotYet }
	}
	return h
}

// Check adds a check that answers at once.
func (h *Health) Check(name string, check func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = check
}

// Probe adds a check that has to ask somebody, which Run does every second.
func (h *Health) Probe(name string, ask func(context.Context) error) {
	p := &probe{ask: ask, err: errNotYet}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probes = append(h.probes, p)
	h.checks[name] = p.result
}

// Notes adds what is worth knowing and does not make the worker unready, by
// name. The question is asked when somebody wants to know, every few seconds at
// most.
func (h *Health) Notes(question func(context.Context) (map[string]string, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = ask(question)
}

// Run asks the probes, and logs when the worker becomes ready and when it is so no
// more, until ctx ends.
func (h *Health) Run(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	ready := false
	for {
		ready = h.logged(ready)
		h.mu.Lock()
		for _, p := range h.probes {
			if p.begin() {
				asked.Go(func() { p.run(ctx) })
			}
		}
		h.mu.Unlock()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// logged logs whether the worker is ready, if it was not so before.
func (h *Health) logged(before bool) (ready bool) {
	r := h.report()
	switch {
	case r.Ready && !before:
		h.log.Info("the worker is ready")
	case !r.Ready && before:
		var failing []string
		for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
			if says := r.Checks[name]; says != well {
				failing = append(failing, name+": "+says)
			}
		}
		h.log.Warn("the worker is not ready", "checks", strings.Join(failing, "; "))
	}
	return r.Ready
}

// begin reports whether nobody is being asked.
func (p *probe) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := !p.underWay
	p.underWay = true
	return free
}

func (p *probe) run(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	err := p.ask(within)
	if err != nil && within.Err() != nil {
		err = errSilent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.underWay, p.err, p.at = false, err, time.Now()
}

func (p *probe) result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && time.Since(p.at) > probeEvery+probePatience {
		return errSilent
	}
	return p.err
}

// report is the body of /readyz.
type report struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // ok, or why not
	Notes  map[string]string `json:"notes,omitempty"`
}

const well = "ok"

func (h *Health) report() report {
	h.mu.Lock()
	checks := maps.Clone(h.checks)
	h.mu.Unlock()
	r := report{Ready: true, Checks: map[string]string{}}
	for name, check := range checks {
		r.Checks[name] = well
		if err := check(); err != nil {
			r.Ready, r.Checks[name] = false, err.Error()
		}
	}
	return r
}

// ServeHTTP answers 200 when every check is well, else 503, and names each.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r := h.report()
	h.mu.Lock()
	notes := h.notes
	h.mu.Unlock()
	if notes != nil {
		r.Notes, _ = notes.get() // without an answer there are none
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) //nolint:errchkjson // whoever asked may have gone
}

// Watch gives metrics of the checks.
func (m *Metrics) Watch(h *Health) { m.registry.MustRegister(healthCollector{h}) }

var (
	readyDesc = prometheus.NewDesc("imgus_ready", "1 when every check is well.", nil, nil)
	checkDesc = prometheus.NewDesc("imgus_check", "1 when the check is well.", []string{"check"}, nil)
)

type healthCollector struct{ health *Health }

func (c healthCollector) Describe(out chan<- *prometheus.Desc) {
	out <- readyDesc
	out <- checkDesc
}

func (c healthCollector) Collect(out chan<- prometheus.Metric) {
	r := c.health.report()
	flag := func(ok bool) float64 {
		if ok {
			return 1
		}
		return 0
	}
	out <- prometheus.MustNewConstMetric(readyDesc, prometheus.GaugeValue, flag(r.Ready))
	for name, says := range r.Checks {
		out <- prometheus.MustNewConstMetric(checkDesc, prometheus.GaugeValue, flag(says == well), name)
	}
}
