package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServerOptions say where the HTTP server listens.
type ServerOptions struct {
	// Address serves /livez, /readyz and /metrics; Pprof serves /debug/pprof and
	// must be a loopback address. Empty is off.
	Address, Pprof string
	Health         *Health
	Metrics        *Metrics
	Log            *slog.Logger
}

// Server is the HTTP server of metrics and health.
type Server struct {
	servers []*http.Server
	ended   chan error
	log     *slog.Logger
	// Addr is where it listens, "" if it does not; PprofAddr likewise.
	Addr, PprofAddr string
}

var errNotLocal = errors.New("it must be a loopback address")

// Serve listens and answers in the background. Close it. An address that cannot
// be had is an error.
func Serve(ctx context.Context, o ServerOptions) (*Server, error) {
	s := &Server{ended: make(chan error, 2), log: o.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n")) // whoever asked may have gone
	})
	mux.Handle("GET /readyz", o.Health)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	}))
	var err error
	if s.Addr, err = s.listen(ctx, o.Address, false, mux); err != nil {
		return nil, fmt.Errorf("serve metrics and health on %s (http.address): %w", o.Address, err)
	}
	debug := http.NewServeMux()
	debug.HandleFunc("/debug/pprof/", pprof.Index)
	debug.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	debug.HandleFunc("/debug/pprof/profile", pprof.Profile)
	debug.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	debug.HandleFunc("/debug/pprof/trace", pprof.Trace)
	if s.PprofAddr, err = s.listen(ctx, o.Pprof, true, debug); err != nil {
		return nil, errors.Join(fmt.Errorf("serve profiles on %s (http.pprof_address): %w", o.Pprof, err), s.Close())
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, address string, local bool, handler http.Handler) (string, error) {
	if address == "" {
		return "", nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	if at, ok := listener.Addr().(*net.TCPAddr); local && (!ok || !at.IP.IsLoopback()) {
		return "", errors.Join(errNotLocal, listener.Close())
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, // a CPU profile takes 30 s
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	s.servers = append(s.servers, server)
	go func() { s.ended <- server.Serve(listener) }()
	return listener.Addr().String(), nil
}

// Close ends the server.
func (s *Server) Close() error {
	var all []error
	for _, server := range s.servers {
		all = append(all, server.Close())
	}
	for range s.servers {
		if err := <-s.ended; !errors.Is(err, http.ErrServerClosed) {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
