package main

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/imgus/worker/job"
)

// progressBar shows on a terminal what a job does; elsewhere it shows nothing.
type progressBar struct {
	out   io.Writer
	mu    sync.Mutex
	shown bool
}

func newProgressBar(out io.Writer) *progressBar {
	if !isTerminal(out) {
		out = nil
	}
	return &progressBar{out: out}
}

// what a person calls the stages.
var stageNames = map[job.Stage]string{
	job.StageQueued: "waiting", job.StageFetch: "fetching", job.StageLoad: "loading the model", job.StageDecode: "reading the photo",
	job.StageText: "reading the prompt", job.StageDenoise: "drawing", job.StageVAE: "developing", job.StageEncode: "encoding", job.StageStore: "storing",
}

const barWidth = 30

func (b *progressBar) show(p job.Progress) {
	if b.out == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shown = true
	line := fmt.Sprintf("%-20s", stageNames[p.Stage])
	if p.Steps > 0 {
		filled := barWidth * p.Step / p.Steps
		line += fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), p.Step, p.Steps)
	}
	fmt.Fprintf(b.out, "\r\x1b[K%s", line)
}

// done clears the line.
func (b *progressBar) done() {
	if b.out == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}
