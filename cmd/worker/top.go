package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func (a *app) topCommand() *cobra.Command {
	var every time.Duration
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch queues, workers, their devices and the jobs they have",
		Long: `Shows all queues, the workers that serve them with their devices, the running
jobs with their progress, and the last jobs that have ended since the start,
refreshed live until q, Ctrl-C or SIGTERM. It reads Redis alone, so it can run
anywhere. Where the output is no terminal it is plain text, once, and no job has
ended since; --every then goes on. With --json it prints one document each time.

Ends are heard on imgus:events:*. A Redis user who may not (+psubscribe) sees
the ends of those jobs alone that were running at the look before.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return usage("--every must be at least 100ms")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if !isTerminal(a.stdout) && !cmd.Flags().Changed("every") {
				once = true
			}
			return a.withClient(func(client *queue.Client) error {
				return (&top{app: a, client: client}).run(ctx, every, once)
			})
		},
	}
	cmd.Flags().DurationVar(&every, "every", time.Second, "time between two looks")
	cmd.Flags().BoolVar(&once, "once", false, "look once")
	return cmd
}

// top is one run of the command.
type top struct {
	app    *app
	client *queue.Client

	running map[string]queue.Status // of the last look

	mu    sync.Mutex
	ended []queue.Status // since the start, the newest first
}

// view is one look.
type view struct {
	At      time.Time      `json:"at"`
	Queues  []depth        `json:"queues"`
	Workers []queue.Worker `json:"workers"`
	Running []queue.Status `json:"running"`
	Ended   []queue.Status `json:"ended"`
}

// depth is a queue's, with the unit of its time in the name.
type depth struct {
	queue.Depth
	OldestSeconds float64 `json:"oldest_seconds"`
}

const keptOutcomes = 10

func (t *top) run(ctx context.Context, every time.Duration, once bool) error {
	screen := isTerminal(t.app.stdout) && !once && !t.app.json
	if screen {
		leave := t.enter()
		defer leave()
	}
	quit := t.keys(screen)
	if !once {
		following, stop := context.WithCancel(ctx)
		defer stop()
		go t.follow(following)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		v, err := t.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && (once || !errors.Is(err, queue.ErrUnavailable)) {
			return err
		}
		if err := t.show(v, err, screen); err != nil || once {
			return err
		}
		select {
		case <-ticker.C:
		case <-quit:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// enter takes over the terminal; leave gives it back as it was.
func (t *top) enter() (leave func()) {
	fmt.Fprint(t.app.stdout, "\x1b[?1049h\x1b[?25l")
	restore := func() {}
	if in, ok := t.app.stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		if state, err := term.MakeRaw(int(in.Fd())); err == nil {
			restore = func() { _ = term.Restore(int(in.Fd()), state) }
		}
	}
	return func() {
		restore()
		fmt.Fprint(t.app.stdout, "\x1b[?25h\x1b[?1049l")
	}
}

// keys closes its channel on q or Ctrl-C, which a raw terminal hands over as a
// letter. The reader ends with the program: nothing can end a read from a
// terminal.
func (t *top) keys(screen bool) <-chan struct{} {
	quit := make(chan struct{})
	if !screen {
		return quit
	}
	go func() {
		defer close(quit)
		letter := make([]byte, 1)
		for {
			if n, err := t.app.stdin.Read(letter); err != nil || n == 1 && (letter[0] == 'q' || letter[0] == 3) {
				return
			}
		}
	}()
	return quit
}

// follow hears of the end of every job. Where that is not allowed, look finds
// the ends of those that it saw running.
func (t *top) follow(ctx context.Context) {
	for s, err := range t.client.Follow(ctx) {
		if err == nil && s.State.Final() {
			t.end(s)
		}
	}
}

func (t *top) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v := view{At: time.Now().UTC(), Queues: []depth{}, Workers: []queue.Worker{}, Running: []queue.Status{}}
	depths, err := t.client.Depths(ctx)
	if err != nil {
		return v, err
	}
	for _, d := range depths {
		v.Queues = append(v.Queues, depth{Depth: d, OldestSeconds: d.Oldest.Seconds()})
	}
	workers, err := t.client.Workers(ctx)
	if err != nil {
		return v, err
	}
	v.Workers = append(v.Workers, workers...)
	active, err := t.client.Active(ctx)
	if err != nil {
		return v, err
	}
	now := map[string]queue.Status{}
	for _, id := range active {
		now[id] = queue.Status{ID: id}
	}
	// Those of the last look as well: they may have ended.
	for id := range t.running {
		now[id] = queue.Status{ID: id}
	}
	for id := range now {
		s, err := t.client.Status(ctx, id)
		switch {
		case errors.Is(err, queue.ErrUnknownJob):
			delete(now, id)
			continue
		case err != nil:
			return v, err
		case s.State.Final():
			delete(now, id)
			t.end(s)
		case s.State != job.Running:
			delete(now, id)
		default:
			now[id] = s
			v.Running = append(v.Running, s)
		}
	}
	t.running = now
	slices.SortFunc(v.Running, func(a, b queue.Status) int { return strings.Compare(a.ID, b.ID) })
	t.mu.Lock()
	defer t.mu.Unlock()
	v.Ended = append([]queue.Status{}, t.ended...)
	return v, nil
}

func (t *top) end(s queue.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.ContainsFunc(t.ended, func(o queue.Status) bool { return o.ID == s.ID }) {
		return
	}
	t.ended = append([]queue.Status{s}, t.ended...)
	t.ended = t.ended[:min(len(t.ended), keptOutcomes)]
}

func (t *top) show(v view, trouble error, screen bool) error {
	if t.app.json {
		if trouble != nil {
			fmt.Fprintln(t.app.stderr, "worker:", trouble)
			return nil
		}
		return t.app.print(v)
	}
	var text strings.Builder
	if trouble != nil {
		fmt.Fprintf(&text, "%s  %v\n", v.At.Format(time.TimeOnly), trouble)
	} else if err := v.write(&text); err != nil {
		return err
	}
	if !screen {
		_, err := fmt.Fprintln(t.app.stdout, text.String())
		return err
	}
	rows := 24
	if file, ok := t.app.stdout.(*os.File); ok {
		if _, height, err := term.GetSize(int(file.Fd())); err == nil && height > 1 {
			rows = height
		}
	}
	shown := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	shown = shown[:min(len(shown), rows-1)]
	// Each line clears what it leaves of the old one, so that nothing flickers.
	_, err := fmt.Fprint(t.app.stdout, "\x1b[H"+strings.Join(shown, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	return err
}

// write is the view as a person reads it.
func (v view) write(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "imgus  %s  %d workers, %d running\n\n", v.At.Format(time.TimeOnly), len(v.Workers), len(v.Running))
	fmt.Fprintln(table, "QUEUE\tPENDING\tACTIVE\tWAITING\tOLDEST")
	for _, q := range v.Queues {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\n", q.Queue, q.Pending, q.Active, q.Waiting, q.Oldest.Round(time.Second))
	}
	fmt.Fprintln(table, "\nWORKER\tVERSION\tUP\tDEVICE\tSTATE\tJOBS\tMODELS IN MEMORY")
	for _, w := range v.Workers {
		name := fmt.Sprintf("%s/%d\t%s\t%s", w.Host, w.PID, or(w.Version, "-"), v.At.Sub(w.StartedAt).Round(time.Second))
		if len(w.Devices) == 0 {
			fmt.Fprintf(table, "%s\t-\t-\t%d/%d\t\n", name, w.InHand, w.Slots)
		}
		for i, d := range w.Devices {
			if i > 0 {
				name = "\t\t"
			}
			state := d.State
			if !w.Serving {
				state += ", taking no jobs"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%d/%d\t%s\n", name, d.Name, state, d.Busy, d.Slots, strings.Join(d.Models, " "))
		}
	}
	fmt.Fprintln(table, "\nRUNNING\tQUEUE\tATTEMPT\tSTAGE\tPROGRESS")
	for _, s := range v.Running {
		progress := ""
		if s.Steps > 0 {
			filled := barWidth * s.Step / s.Steps
			progress = fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("=", filled), strings.Repeat(" ", barWidth-filled), s.Step, s.Steps)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", s.ID, s.Queue, s.Attempt, or(stageNames[s.Stage], "starting"), progress)
	}
	fmt.Fprintln(table, "\nENDED\tQUEUE\tATTEMPT\tSTATE\tAGO")
	for _, s := range v.Ended {
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\n", s.ID, s.Queue, s.Attempt, strings.TrimSpace(string(s.State)+" "+string(s.ErrorCode)), v.At.Sub(s.UpdatedAt).Round(time.Second))
	}
	return table.Flush()
}
