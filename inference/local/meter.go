package local

import (
	"bytes"
	"os"
	"strconv"

	"github.com/imgus/worker/job"
)

// meter measures by how much the process grows in each stage of a job. ONNX
// Runtime's arenas do not shrink, so at the end of a stage stands its peak.
type meter struct {
	resident func() int64
	stage    job.Stage
	last     int64
	grown    map[job.Stage]int64
}

// newMeter makes a meter; resident may be nil, and nothing is then measured.
func newMeter(resident func() int64) *meter {
	return &meter{resident: resident}
}

func (m *meter) enter(stage job.Stage) {
	if m.resident == nil || stage == m.stage {
		return
	}
	now := m.resident()
	if m.grown == nil {
		m.grown = map[job.Stage]int64{}
	} else {
		m.grown[m.stage] += now - m.last
	}
	m.stage, m.last = stage, now
}

// stop ends the last stage and gives the bytes of each; nil if nothing was
// measured.
func (m *meter) stop() map[job.Stage]int64 {
	m.enter("")
	return m.grown
}

// statm tells a process's memory in pages (proc(5)).
const statm = "/proc/self/statm"

// residentMemory gives a function for the bytes of this process in memory, or
// nil where the system does not tell. The file stays open, since a sandbox may
// keep it from being opened later.
func residentMemory() (resident func() int64, closer func() error) {
	f, err := os.Open(statm)
	if err != nil {
		return nil, func() error { return nil }
	}
	page := int64(os.Getpagesize())
	return func() int64 {
		var text [128]byte
		n, _ := f.ReadAt(text[:], 0) // io.EOF: the file is shorter
		fields := bytes.Fields(text[:n])
		if len(fields) < 2 {
			return 0
		}
		pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
		if err != nil {
			return 0
		}
		return pages * page
	}, f.Close
}
