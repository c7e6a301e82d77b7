package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Store forwards requests to an S3 server.
type Store struct {
	server  *http.Server
	addr    string
	journal io.Writer
	ended   chan struct{}

	mu      sync.Mutex
	refuse  bool
	lose    int
	rate    float64
	random  *rand.Rand
	faults  int
	entries []Entry
}

// Entry is a request that the store has answered.
type Entry struct {
	At     time.Time `json:"at"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Status int       `json:"status"`
}

// NewStore stands before the server, host:port. Every request that the server
// has answered is written to the journal, if there is one, a JSON document a
// line. Close it.
func NewStore(backend string, journal io.Writer) (*Store, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{addr: listener.Addr().String(), journal: journal, ended: make(chan struct{})}
	// The signature covers the Host header, so that stays as it is.
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.Host = r.In.Host
			// What the server does for a worker that has just been killed must be in
			// the journal too.
			r.Out = r.Out.WithContext(context.WithoutCancel(r.In.Context()))
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, DisableCompression: true,
			// An idle connection that the server has just closed would look like a lost reply.
			IdleConnTimeout: 5 * time.Second,
		},
		ModifyResponse: s.answered,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // breaks the connection
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // faults are not news
	}
	s.server = &http.Server{Handler: s.faulty(proxy), ReadHeaderTimeout: time.Minute, ErrorLog: proxy.ErrorLog}
	go func() {
		defer close(s.ended)
		_ = s.server.Serve(listener) // until Close
	}()
	return s, nil
}

// Addr is what stands in for the server, host:port.
func (s *Store) Addr() string { return s.addr }

// Close ends it.
func (s *Store) Close() {
	_ = s.server.Close() // connections break
	<-s.ended
}

// Refuse answers every request with 503, or stops that.
func (s *Store) Refuse(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = on
}

// LoseReplies has the server do the next n requests, and breaks the connection
// in place of each answer.
func (s *Store) LoseReplies(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose = n
}

// Shake has about one of 1/rate requests fail, by the seed: refused before the
// server sees it, its answer lost, or delayed by up to two seconds. Which
// request it is depends on their order.
func (s *Store) Shake(seed uint64, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rate, s.random = rate, rand.New(rand.NewPCG(seed, 0))
}

// Faults is how many requests failed by Shake.
func (s *Store) Faults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// Entries are the requests that the server has answered since the given time.
func (s *Store) Entries(since time.Time) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Entry
	for _, e := range s.entries {
		if e.At.After(since) {
			out = append(out, e)
		}
	}
	return out
}

type fate int

const (
	spared fate = iota
	refused
	lost
	delayed
)

func (s *Store) decide() (fate, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refuse:
		return refused, 0
	case s.lose > 0:
		s.lose--
		return lost, 0
	case s.rate > 0 && s.random.Float64() < s.rate:
		s.faults++
		return []fate{refused, lost, delayed}[s.random.IntN(3)], time.Duration(s.random.Int64N(int64(2 * time.Second)))
	}
	return spared, 0
}

var errLost = errors.New("the reply is lost")

func (s *Store) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, wait := s.decide()
		switch what {
		case spared:
		case refused:
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `<Error><Code>SlowDown</Code><Message>try again later</Message></Error>`)
			return
		case lost:
			r.Header.Set("X-Lose-Reply", "yes")
		case delayed:
			select {
			case <-time.After(wait):
			case <-r.Context().Done():
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// answered sees each answer of the server before the worker does.
func (s *Store) answered(r *http.Response) error {
	s.note(Entry{At: time.Now(), Method: r.Request.Method, Path: r.Request.URL.Path, Status: r.StatusCode})
	if r.Request.Header.Get("X-Lose-Reply") == "" {
		return nil
	}
	_, _ = io.Copy(io.Discard, r.Body)
	return errLost
}

func (s *Store) note(e Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, e)
	if s.journal == nil {
		return
	}
	if err := json.NewEncoder(s.journal).Encode(e); err != nil {
		s.journal = nil // a journal that is short fails the audit
	}
}
