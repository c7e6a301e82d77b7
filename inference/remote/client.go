package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// client speaks to one child. Every exchange ends with the last line of an
// answer, or with the end of the child: there is no third way, so that nobody
// ever has to guess whether the device still works.
type client struct {
	dial func() (*net.UnixConn, error)
	// kill ends the child at once; the first reason is remembered.
	kill func(reason error)
	// ended is closed when the child is gone.
	ended chan struct{}
	// grace is how long a cancelled job may take to stop.
	grace time.Duration
	clock *clock
}

// errNotBegun: the child ended before it began to work.
var errNotBegun = errors.New("the engine process was not there")

// errLost: the connection broke before the last line. The child is gone.
var errLost = errors.New("the engine process ended, or said nothing sensible")

// isGone reports whether the error says that the child is.
func isGone(err error) bool { return errors.Is(err, errNotBegun) || errors.Is(err, errLost) }

func (c *client) generate(ctx context.Context, r inference.Request) (*answer, error) {
	head, err := encodeLine(question{Job: r.Job, InputBytes: int64(len(r.Input)), MaskBytes: int64(len(r.Mask))})
	if err != nil {
		return nil, err
	}
	dog := c.clock.watch(r.Job, c.kill)
	defer dog.stop()
	return c.exchange(ctx, "/generate", [][]byte{head, r.Input, r.Mask}, func(p job.Progress) {
		dog.enter(p)
		if r.Progress != nil {
			r.Progress(p)
		}
	})
}

// classify is bounded by what reading a photo may take.
func (c *client) classify(ctx context.Context, p inference.Picture) (*answer, error) {
	head, err := encodeLine(pictureFacts{Target: p.Target, Bytes: int64(len(p.Data))})
	if err != nil {
		return nil, err
	}
	dog := c.clock.watch(&job.Job{}, c.kill)
	defer dog.stop()
	dog.enter(job.Progress{Stage: job.StageDecode})
	a, err := c.exchange(ctx, "/classify", [][]byte{head, p.Data}, dog.enter)
	if err == nil {
		dog.enter(job.Progress{Stage: job.StageTotal}) // how long it took bounds the next
	}
	return a, err
}

func (c *client) warmUp(ctx context.Context, w inference.WarmUp) (*answer, error) {
	head, err := encodeLine(w)
	if err != nil {
		return nil, err
	}
	j := &job.Job{Model: w.Model}
	for from, into := range map[*int]**int{&w.Width: &j.Width, &w.Height: &j.Height, &w.Images: &j.Images} {
		if *from != 0 {
			*into = from
		}
	}
	dog := c.clock.watch(j, c.kill)
	defer dog.stop()
	return c.exchange(ctx, "/warmup", [][]byte{head}, dog.enter)
}

func encodeLine(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode for the engine process: %w", err)
	}
	return append(data, '\n'), nil
}

// exchange asks and reads the whole answer. The end of ctx shuts our half of
// the connection, which cancels the job; the answer comes all the same. After
// errNotBegun and errLost the child is gone.
func (c *client) exchange(ctx context.Context, path string, parts [][]byte, progress func(job.Progress)) (*answer, error) {
	conn, err := c.dial()
	if err != nil {
		if errors.Is(err, errNotBegun) {
			c.bury(err)
		}
		return nil, err
	}
	defer conn.Close()
	over := make(chan struct{})
	defer close(over)
	asked := &noting{Conn: conn, begun: make(chan struct{})}
	defer context.AfterFunc(ctx, func() {
		// A question that ends within its head is none, and has no answer.
		select {
		case <-asked.begun:
		case <-over:
		}
		_ = conn.CloseWrite() // it is closed already where the child is gone
		select {
		case <-over:
		case <-time.After(c.grace):
			c.kill(fmt.Errorf("a job did not stop within %s: %w", c.grace, context.Cause(ctx)))
		}
	})()

	a, err := talk(context.WithoutCancel(ctx), asked, path, parts, progress)
	if err != nil {
		c.bury(err)
		return nil, err
	}
	return a, nil
}

// noting is a connection that tells when something was written: net/http's first
// write has the whole head of a question.
type noting struct {
	net.Conn

	begun chan struct{}
	once  sync.Once
}

func (n *noting) Write(p []byte) (int, error) {
	written, err := n.Conn.Write(p)
	n.once.Do(func() { close(n.begun) })
	return written, err
}

// bury sees to it that a child that is lost is gone. One that crashed is given
// the time to end by itself, since its exit says how.
func (c *client) bury(reason error) {
	if !errors.Is(reason, errWire) {
		select {
		case <-c.ended:
			return
		case <-time.After(time.Second):
		}
	}
	c.kill(reason)
	<-c.ended
}

// talk returns errNotBegun or errLost where the answer does not come whole.
func talk(ctx context.Context, conn net.Conn, path string, parts [][]byte, progress func(job.Progress)) (*answer, error) {
	resp, err := send(ctx, conn, http.MethodPost, path, parts)
	if err != nil {
		// The head of the answer is sent before the work begins.
		return nil, fmt.Errorf("%w: %w", errNotBegun, err)
	}
	defer resp.Body.Close()
	a, err := readAnswer(resp.Body, progress)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return a, nil
}

// send writes a request and reads the head of its answer.
func send(ctx context.Context, conn net.Conn, method, path string, parts [][]byte) (*http.Response, error) {
	readers := make([]io.Reader, len(parts))
	size := int64(0)
	for i, part := range parts {
		readers[i], size = bytes.NewReader(part), size+int64(len(part))
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, io.MultiReader(readers...))
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	// A cancelled job's question may stay unfinished; it is answered anyway.
	unsaid := req.Write(conn)
	from := newReader(conn)
	resp, err := http.ReadResponse(from.Reader, req)
	if err != nil {
		return nil, errors.Join(err, unsaid)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxCause)) // as much as there is
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: %s: %s", errWire, resp.Status, bytes.TrimSpace(text))
	}
	resp.Body = wiping{resp.Body, from}
	return resp, nil
}

// wiping is a body whose end wipes what it was read through.
type wiping struct {
	io.ReadCloser

	from reader
}

func (w wiping) Close() error {
	err := w.ReadCloser.Close()
	w.from.wipe()
	return err
}

// status asks for the engine's state. Unlike an exchange it may fail.
func (c *client) status(ctx context.Context) (hostStatus, error) {
	var s hostStatus
	return s, c.ask(ctx, "/status", &s)
}

// alive reports whether the child answers at all.
func (c *client) alive(ctx context.Context) error { return c.ask(ctx, "/alive", nil) }

func (c *client) ask(ctx context.Context, path string, into any) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // the answer is not awaited any more
	resp, err := send(ctx, conn, http.MethodGet, path, nil)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(into); err != nil {
		return fmt.Errorf("%w: status: %w", errWire, err)
	}
	return nil
}
