package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// readyz asks a Health and returns the status and the body.
func readyz(t *testing.T, h *Health) (int, report) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody))
	var r report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	return w.Code, r
}

// A worker is ready when everything is there, and not before it was looked at.
func TestReadyWhenAllIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHealth(slog.New(slog.DiscardHandler), "engine", "storage")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go h.Run(ctx)
		synctest.Wait()
		if code, r := readyz(t, h); code != http.StatusServiceUnavailable || r.Ready || len(r.Checks) != 2 || r.Checks["engine"] == well {
			t.Errorf("at the start: %d, %+v", code, r)
		}
		var engine, storage atomic.Pointer[error]
		report := func(p *atomic.Pointer[error]) error {
			if err := p.Load(); err != nil {
				return *err
			}
			return nil
		}
		h.Check("engine", func() error { return report(&engine) })
		h.Probe("storage", func(context.Context) error { return report(&storage) })
		if code, r := readyz(t, h); code != http.StatusServiceUnavailable || r.Checks["storage"] == well {
			t.Errorf("before the storage was asked: %d, %+v", code, r)
		}
		time.Sleep(probeEvery)
		synctest.Wait()
		if code, r := readyz(t, h); code != http.StatusOK || !r.Ready {
			t.Errorf("all is well: %d, %+v", code, r)
		}
		gone := errors.New("gone")
		engine.Store(&gone)
		if code, r := readyz(t, h); code != http.StatusServiceUnavailable || r.Checks["engine"] != "gone" || r.Checks["storage"] != well {
			t.Errorf("the engine is gone: %d, %+v", code, r)
		}
		engine.Store(nil)
		storage.Store(&gone)
		time.Sleep(probeEvery)
		synctest.Wait()
		if code, r := readyz(t, h); code != http.StatusServiceUnavailable || r.Checks["storage"] != "gone" {
			t.Errorf("the storage is gone: %d, %+v", code, r)
		}
	})
}

// A service that hangs is noticed within two seconds, even where the probe does
// not obey its context, and is not asked twice at once.
func TestProbeThatHangs(t *testing.T) {
	for name, obeys := range map[string]bool{"obeys": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := NewHealth(slog.New(slog.DiscardHandler), "storage")
				var hangs atomic.Bool
				var questions atomic.Int32
				over := make(chan struct{})
				h.Probe("storage", func(ctx context.Context) error {
					questions.Add(1)
					switch {
					case !hangs.Load():
						return nil
					case obeys:
						<-ctx.Done()
						return ctx.Err()
					default:
						<-over
						return nil
					}
				})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() { h.Run(ctx); close(ended) }()
				time.Sleep(probeEvery / 2)
				if code, _ := readyz(t, h); code != http.StatusOK {
					t.Fatal("not ready")
				}
				hangs.Store(true)
				time.Sleep(2*time.Second - time.Millisecond)
				if code, r := readyz(t, h); code != http.StatusServiceUnavailable || r.Checks["storage"] != errSilent.Error() {
					t.Errorf("two seconds later: %d, %+v", code, r)
				}
				time.Sleep(10 * time.Second)
				if n := questions.Load(); !obeys && n != 2 || obeys && n > 14 {
					t.Errorf("asked %d times", n)
				}
				hangs.Store(false)
				close(over)
				time.Sleep(2 * probeEvery)
				if code, r := readyz(t, h); code != http.StatusOK {
					t.Errorf("after its return: %d, %+v", code, r)
				}
				stop()
				<-ended
			})
		})
	}
}

// Each change of readiness is logged once, with the checks that fail.
func TestReadinessIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		h := NewHealth(slog.New(slog.NewTextHandler(&log, nil)), "engine", "storage")
		var hangs atomic.Bool
		h.Check("engine", func() error { return nil })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { h.Run(ctx); close(ended) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("before it was ever ready: %s", log.String())
		}
		h.Probe("storage", func(ctx context.Context) error {
			if hangs.Load() {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		for i, want := range []string{`level=INFO msg="the worker is ready"`, `level=WARN msg="the worker is not ready" checks="storage: it does not answer"`} {
			before := log.Len()
			hangs.Store(i > 0)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if said := log.String()[before:]; !strings.Contains(said, want) || strings.Count(said, "\n") != 1 {
				t.Errorf("it says %q, want %s", said, want)
			}
		}
		stop()
		<-ended
	})
}

// Notes tell of broken models and the like; they make nobody unready.
func TestNotes(t *testing.T) {
	h := NewHealth(slog.New(slog.DiscardHandler))
	h.Notes(func(context.Context) (map[string]string, error) {
		return map[string]string{"model x": "digest differs"}, nil
	})
	if code, r := readyz(t, h); code != http.StatusOK || r.Notes["model x"] != "digest differs" {
		t.Errorf("%d, %+v", code, r)
	}
	h.Notes(func(context.Context) (map[string]string, error) { return nil, errors.New("gone") })
	if code, r := readyz(t, h); code != http.StatusOK || len(r.Notes) > 0 {
		t.Errorf("%d, %+v", code, r)
	}
}
