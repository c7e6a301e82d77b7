package remote

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// server answers the parent for an engine.
type server struct {
	engine inference.Engine
	// broken reports whether an error means that the engine is no good any
	// more.
	broken      func(error) bool
	confinement confinement
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /generate", s.generate)
	mux.HandleFunc("POST /classify", s.classify)
	mux.HandleFunc("POST /warmup", s.warmUp)
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /alive", func(http.ResponseWriter, *http.Request) {})
	return mux
}

func (s *server) generate(w http.ResponseWriter, r *http.Request) {
	out := &writer{w: w}
	question, err := readQuestion(r.Body)
	if err != nil {
		// Most likely the parent gave up before it had said everything.
		out.last(line{Error: job.AsError(err), Cause: err.Error(), Cancelled: !errors.Is(err, errWire)})
		return
	}
	var result *inference.Result
	err = out.during(r.Context(), func(ctx context.Context, progress func(job.Progress)) (err error) {
		question.Progress = progress
		result, err = s.engine.Generate(ctx, question)
		return err
	})
	clear(question.Input)
	clear(question.Mask)
	if err != nil {
		out.last(s.failure(r.Context(), err))
		return
	}
	out.result(result, s.models(r.Context()))
}

func (s *server) classify(w http.ResponseWriter, r *http.Request) {
	out := &writer{w: w}
	picture, err := readPicture(r.Body)
	if err != nil {
		out.last(line{Error: job.AsError(err), Cause: err.Error(), Cancelled: !errors.Is(err, errWire)})
		return
	}
	defer clear(picture.Data)
	var c *inference.Classification
	err = out.during(r.Context(), func(ctx context.Context, _ func(job.Progress)) (err error) {
		classifier, ok := s.engine.(inference.Classifier)
		if !ok {
			return job.Errorf(job.EngineFailed, "the engine has no classifier of pictures")
		}
		c, err = classifier.Classify(ctx, picture)
		return err
	})
	if err != nil {
		out.last(s.failure(r.Context(), err))
		return
	}
	out.last(line{Classification: c})
}

func (s *server) warmUp(w http.ResponseWriter, r *http.Request) {
	out := &writer{w: w}
	var what inference.WarmUp
	if err := newReader(r.Body).line(&what); err != nil {
		out.last(line{Error: job.AsError(err), Cause: err.Error(), Cancelled: !errors.Is(err, errWire)})
		return
	}
	err := out.during(r.Context(), func(ctx context.Context, progress func(job.Progress)) error {
		what.Progress = progress
		host, ok := s.engine.(inference.Host)
		if !ok {
			return nil
		}
		return host.WarmUp(ctx, what)
	})
	if err != nil {
		out.last(s.failure(r.Context(), err))
		return
	}
	out.last(line{Models: s.models(r.Context())})
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	status := hostStatus{Status: inference.Status{Slots: 1}, confinement: s.confinement}
	if host, ok := s.engine.(inference.Host); ok {
		var err error
		if status.Status, err = host.Status(r.Context()); err != nil {
			http.Error(w, bounded(err.Error()), http.StatusInternalServerError)
			return
		}
	}
	_ = json.NewEncoder(w).Encode(status) //nolint:errchkjson // a parent that went away is seen elsewhere
}

// failure is the last line of an error.
func (s *server) failure(ctx context.Context, err error) line {
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return line{Cancelled: true, Error: job.AsError(err), Models: s.models(ctx)}
	}
	e := job.AsError(err)
	l := line{Error: e, Broken: s.broken != nil && s.broken(err), Models: s.models(ctx)}
	if e.Err != nil {
		l.Cause = bounded(e.Err.Error())
	}
	return l
}

func (s *server) models(ctx context.Context) []string {
	host, ok := s.engine.(inference.Host)
	if !ok {
		return nil
	}
	status, err := host.Status(context.WithoutCancel(ctx))
	if err != nil {
		return nil
	}
	names := make([]string, len(status.Models))
	for i, m := range status.Models {
		names[i] = m.Name
	}
	return names
}

// writer writes an answer. A parent that does not listen any more has ended
// the request's context.
type writer struct{ w http.ResponseWriter }

// begin sends the head of the answer. A parent that has not seen it knows that
// the work was not begun.
func (o *writer) begin() { _ = http.NewResponseController(o.w).Flush() }

// during does the work, and tells the parent what that has come to. A panic of
// the work ends the process, like any other crash of an engine.
func (o *writer) during(ctx context.Context, work func(ctx context.Context, progress func(job.Progress)) error) error {
	o.begin()
	latest := newMailbox()
	ended := make(chan error, 1)
	go func() { ended <- work(ctx, latest.put) }()
	for {
		select {
		case <-latest.full:
			o.progress(latest.take())
		case err := <-ended:
			select {
			case <-latest.full:
				o.progress(latest.take())
			default:
			}
			return err
		}
	}
}

func (o *writer) progress(p job.Progress) {
	o.last(line{Progress: &p})
	o.begin()
}

// last writes a line. Where that fails the answer ends early, which the parent
// takes for a crash.
func (o *writer) last(l line) {
	_ = json.NewEncoder(o.w).Encode(l) //nolint:errchkjson // see above
}

// result writes the facts and then the images, each straight from where the
// engine left it. Nothing of a picture stays.
func (o *writer) result(r *inference.Result, models []string) {
	f := &facts{Images: []imageFacts{}, Model: r.Model, Parameters: r.Parameters, Timings: r.Timings, Engine: r.Engine}
	for _, image := range r.Images {
		f.Images = append(f.Images, imageFacts{
			Bytes: int64(len(image.Data)), Format: image.Format, Width: image.Width, Height: image.Height, Seed: image.Seed,
		})
	}
	o.last(line{Result: f, Models: models})
	for _, image := range r.Images {
		_, _ = o.w.Write(image.Data)
		clear(image.Data)
	}
}

// mailbox holds the newest progress until it is taken: a slow parent is told
// less, never late.
type mailbox struct {
	mu     sync.Mutex
	newest job.Progress
	full   chan struct{} // has a token while there is something to take
}

func newMailbox() *mailbox { return &mailbox{full: make(chan struct{}, 1)} }

func (m *mailbox) put(p job.Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.newest = p
	select {
	case m.full <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() job.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest
}
