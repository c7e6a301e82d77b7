package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/imgus/worker/job"
)

// TestTop watches a job from the queue to its end, as documents and as a person
// on a terminal sees it.
func TestTop(t *testing.T) {
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_HTTP_ADDRESS=")
	long := smallJob(150)
	long.ID, long.Width, long.Height = "long", new(512), new(512)
	if _, err := s.client.Enqueue(t.Context(), long, "interactive"); err != nil {
		t.Fatal(err)
	}
	text, _ := s.must(0, "top")
	if !strings.Contains(text, "interactive") || !strings.Contains(text, "0 workers") {
		t.Error(text)
	}
	stop := s.daemon()
	screen, keyboard, ended := s.onTerminal("top", "--every", "100ms")
	screen.await(t, "long", "drawing", "/150", "cpu", "ready")
	if text, _ := s.must(0, "top"); !strings.Contains(text, "drawing") || strings.Contains(text, "\x1b") {
		t.Error(text)
	}
	views := lines[view](t, first(s.must(0, "top", "--json")))
	if len(views) != 1 || len(views[0].Running) != 1 || views[0].Running[0].Stage == "" || len(views[0].Workers) != 1 || len(views[0].Workers[0].Devices) != 1 || len(views[0].Queues) == 0 {
		t.Errorf("views are %+v", views)
	}
	deaf := &top{client: s.client} // whose user may not follow
	if _, err := deaf.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(0, "cancel", "long")
	screen.await(t, "long", string(job.Cancelled))
	if v, err := deaf.look(t.Context()); err != nil || len(v.Ended) != 1 || v.Ended[0].State != job.Cancelled {
		t.Errorf("view is %+v, %v", v, err)
	}
	if _, err := keyboard.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; status != 0 {
		t.Errorf("exit status %d", status)
	}
	stop()
	s.must(2, "top", "--every", "1ms")
	newProgram(t, "IMGUS_REDIS_URL=redis://127.0.0.1:1").must(69, "top")
}

// TestTopOfShortJobs: a job that no look found running has its outcome shown
// all the same; a list without entries is a list, and a time has its unit.
func TestTopOfShortJobs(t *testing.T) {
	s := newStation(t, "IMGUS_LOG_LEVEL=error", "IMGUS_HTTP_ADDRESS=")
	text, _ := s.must(0, "top", "--json")
	for _, empty := range []string{`"queues":[]`, `"workers":[]`, `"running":[]`, `"ended":[]`} {
		if !strings.Contains(text, empty) {
			t.Errorf("%s lacks %s", text, empty)
		}
	}
	screen, keyboard, ended := s.onTerminal("top", "--every", "2s")
	screen.await(t, "0 workers")
	s.following(t)
	for _, id := range []string{"short-a", "short-b"} {
		if _, err := s.client.Enqueue(t.Context(), &job.Job{Version: job.Version, ID: id, Kind: job.TextToImage, Model: "none", Prompt: new("x")}, "interactive"); err != nil {
			t.Fatal(err)
		}
	}
	text, _ = s.must(0, "top", "--json")
	if !strings.Contains(text, `"pending":2,`) || !strings.Contains(text, `"oldest_seconds":0.`) {
		t.Error(text)
	}
	stop := s.daemon()
	screen.await(t, "short-a", "short-b", string(job.Failed))
	if _, err := keyboard.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	<-ended
	stop()
}

// following waits until somebody hears the events of all jobs.
func (s *station) following(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if n, err := s.redis.PubSubNumPat(t.Context()).Result(); err != nil || n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody follows")
		}
	}
}

func first(a, _ string) string { return a }

// onTerminal runs a command on a terminal of its own.
func (p *program) onTerminal(args ...string) (screen *buffer, keyboard *os.File, ended <-chan int) {
	p.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		p.t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}); err != nil {
		p.t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	screen = &buffer{}
	go func() {
		data := make([]byte, 1<<12)
		for {
			n, err := master.Read(data)
			_, _ = screen.Write(data[:n])
			if err != nil {
				return
			}
		}
	}()
	done := make(chan int, 1)
	go func() {
		a := &app{stdin: terminal, stdout: terminal, stderr: terminal, environ: p.environ}
		done <- a.run(p.t.Context(), args)
		_ = terminal.Close()
	}()
	return screen, master, done
}

// await waits until one line of a log, or one picture of a screen, holds all of
// the texts.
func (b *buffer) await(t *testing.T, texts ...string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		parts := "\n"
		if strings.Contains(b.String(), "\x1b[H") {
			parts = "\x1b[H"
		}
		pictures := strings.Split(b.String(), parts)
		for _, picture := range pictures {
			held := 0
			for _, text := range texts {
				if strings.Contains(picture, text) {
					held++
				}
			}
			if held == len(texts) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing holds %q; at last:\n%s", texts, pictures[max(len(pictures)-5, 0):])
		}
		time.Sleep(20 * time.Millisecond)
	}
}
