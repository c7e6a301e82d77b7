package telemetry

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	o.Health, o.Metrics = NewHealth(slog.New(slog.DiscardHandler), "engine"), NewMetrics(Build{}, []string{"batch"}, func() []string { return nil })
	s, err := Serve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		request.Header.Set("X-Header", h)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// Each address serves what belongs there and nothing else; the process lives
// although it is not ready.
func TestServer(t *testing.T) {
	s := serve(t, ServerOptions{Address: "127.0.0.1:0", Pprof: "127.0.0.1:0"})
	for _, tt := range []struct {
		url    string
		status int
		body   string
	}{
		{s.Addr + "/livez", http.StatusOK, "ok"},
		{s.Addr + "/readyz", http.StatusServiceUnavailable, `"engine":`},
		{s.Addr + "/metrics", http.StatusOK, "imgus_build_info{"},
		{s.Addr + "/debug/pprof/", http.StatusNotFound, ""},
		{s.Addr + "/", http.StatusNotFound, ""},
		{s.PprofAddr + "/debug/pprof/", http.StatusOK, "goroutine"},
		{s.PprofAddr + "/debug/pprof/goroutine?debug=1", http.StatusOK, "goroutine profile"},
		{s.PprofAddr + "/metrics", http.StatusNotFound, ""},
	} {
		if status, body := get(t, "http://"+tt.url); status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: %d, %.200s", tt.url, status, body)
		}
	}
	if status, _ := get(t, "http://"+s.Addr+"/livez", strings.Repeat("x", 64<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB: %d", status)
	}
}

func TestNoServer(t *testing.T) {
	if s := serve(t, ServerOptions{}); s.Addr != "" || s.PprofAddr != "" {
		t.Errorf("it listens on %q and %q", s.Addr, s.PprofAddr)
	}
}

// An address that is taken is an error that names the key, and leaves nothing
// behind.
func TestAddressInUse(t *testing.T) {
	s := serve(t, ServerOptions{Address: "127.0.0.1:0"})
	m, h := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil }), NewHealth(slog.New(slog.DiscardHandler))
	if _, err := Serve(t.Context(), ServerOptions{Address: s.Addr, Metrics: m, Health: h, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "http.address") {
		t.Errorf("got %v", err)
	}
	if _, err := Serve(t.Context(), ServerOptions{Address: "127.0.0.1:0", Pprof: s.Addr, Metrics: m, Health: h, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "http.pprof_address") {
		t.Errorf("got %v", err)
	}
}

// Profiles are for this machine alone, whoever asks for the server.
func TestPprofIsLocal(t *testing.T) {
	m, h := NewMetrics(Build{}, []string{"batch"}, func() []string { return nil }), NewHealth(slog.New(slog.DiscardHandler))
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0"} {
		if s, err := Serve(t.Context(), ServerOptions{Pprof: address, Metrics: m, Health: h, Log: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("profiles are served on %s", s.PprofAddr)
			_ = s.Close()
		}
	}
}
