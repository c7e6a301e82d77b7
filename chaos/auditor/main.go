// Command auditor says whether jobs were lost, done twice or left something
// behind. It reads Redis and the bucket itself and shares no code with the
// worker, so that a mistake of the worker's cannot hide itself.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// expectation is what a job must have come to: a line that `worker generate`
// printed for it.
type expectation struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Images []struct {
		SHA256 string `json:"sha256"`
	} `json:"images"`
}

// options are the command line.
type options struct {
	redis, store, prefix                string
	expected, journal, scratch, secrets string
}

func main() {
	var o options
	flag.StringVar(&o.redis, "redis", "", "`URL` of Redis")
	flag.StringVar(&o.store, "store", "", "http://key:secret@host:port/bucket")
	flag.StringVar(&o.prefix, "prefix", "", "what goes before every key")
	flag.StringVar(&o.expected, "expected", "", "`FILE` with what worker generate printed for the jobs")
	flag.StringVar(&o.journal, "journal", "", "`FILE` with what the store was asked for")
	flag.StringVar(&o.scratch, "scratch", "", "`DIR` that must be empty")
	flag.StringVar(&o.secrets, "secrets", "", "`TEXT` that may stand nowhere")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	r, err := audit(ctx, o)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "auditor:", err)
		os.Exit(2)
	}
	r.print(os.Stdout)
	if !r.clean() {
		os.Exit(1)
	}
}

// The counts of a report. Each but jobs must be zero.
const (
	jobs         = "jobs"
	lost         = "lost"
	duplicate    = "duplicate-visible"
	wrong        = "wrong image or outcome"
	unreferenced = "unreferenced objects"
	inputs       = "inputs left"
	leftover     = "leftover Redis keys"
	stale        = "stale statuses"
	told         = "places with a prompt"
	scratch      = "scratch bytes"
)

type report struct {
	counts   map[string]int64
	findings []string
}

func (r *report) add(what string, n int64, format string, args ...any) {
	r.counts[what] += n
	if len(r.findings) < 100 {
		r.findings = append(r.findings, what+": "+fmt.Sprintf(format, args...))
	}
}

func (r *report) clean() bool {
	for what, n := range r.counts {
		if what != jobs && n != 0 {
			return false
		}
	}
	return true
}

func (r *report) print(w io.Writer) {
	for _, finding := range r.findings {
		fmt.Fprintln(w, finding)
	}
	for _, what := range []string{jobs, lost, duplicate, wrong, unreferenced, inputs, leftover, stale, told, scratch} {
		fmt.Fprintf(w, "%-24s %d\n", what, r.counts[what])
	}
}

func audit(ctx context.Context, o options) (*report, error) {
	r := &report{counts: map[string]int64{}}
	expected, err := lines[expectation](o.expected)
	if err != nil {
		return nil, err
	}
	r.counts[jobs] = int64(len(expected))
	s, err := openStore(o)
	if err != nil {
		return nil, err
	}
	states, err := s.audit(ctx, r, expected)
	if err != nil {
		return nil, err
	}
	if err := auditJournal(r, o, expected); err != nil {
		return nil, err
	}
	if err := auditRedis(ctx, r, o, states); err != nil {
		return nil, err
	}
	return r, auditScratch(r, o.scratch)
}

// lines reads a JSON document a line.
func lines[T any](file string) ([]T, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer f.Close()
	var out []T
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var v T
		if err := json.Unmarshal(scanner.Bytes(), &v); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		out = append(out, v)
	}
	return out, scanner.Err()
}

func auditScratch(r *report, dir string) error {
	if dir == "" {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		r.add(scratch, max(info.Size(), 1), "%s", path)
		return nil
	})
}
