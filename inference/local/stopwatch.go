package local

import (
	"time"

	"github.com/imgus/worker/job"
)

// stopwatch measures how long a job is in each stage, and passes progress on.
type stopwatch struct {
	report  func(job.Progress)
	stage   job.Stage
	since   time.Time
	elapsed map[job.Stage]time.Duration
}

func newStopwatch(report func(job.Progress)) *stopwatch {
	return &stopwatch{report: report, elapsed: map[job.Stage]time.Duration{}}
}

// enter says that the job is at p now.
func (s *stopwatch) enter(p job.Progress) {
	if p.Stage != s.stage {
		now := time.Now()
		if s.stage != "" {
			s.elapsed[s.stage] += now.Sub(s.since)
		}
		s.stage, s.since = p.Stage, now
	}
	if s.report != nil {
		s.report(p)
	}
}

// stop ends the last stage.
func (s *stopwatch) stop() job.Timings {
	s.elapsed[s.stage] += time.Since(s.since)
	timings := job.Timings{}
	for stage, d := range s.elapsed {
		timings[stage] = d.Milliseconds()
	}
	return timings
}
