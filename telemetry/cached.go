package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"
)

// How a scrape asks for figures that somebody else has: it waits for patience
// at most, an answer is used again while it is fresh, and one that is stale is
// none. The question itself goes on for asking, however often it is scraped.
const (
	patience = 500 * time.Millisecond
	fresh    = 5 * time.Second
	stale    = 30 * time.Second
	asking   = 3 * time.Second
)

var errNoAnswer = errors.New("there is no answer yet")

// cached is the answer to a question that may take its time. One question is
// asked at a time, so that whoever does not answer is not asked again and again.
type cached[T any] struct {
	question func(context.Context) (T, error)

	mu     sync.Mutex
	answer T
	err    error
	at     time.Time
	asked  chan struct{} // closed when the question that is under way has its answer
}

func ask[T any](question func(context.Context) (T, error)) *cached[T] {
	return &cached[T]{question: question, err: errNoAnswer}
}

func (c *cached[T]) get() (T, error) {
	c.mu.Lock()
	if time.Since(c.at) < fresh {
		defer c.mu.Unlock()
		return c.answer, c.err
	}
	if c.asked == nil {
		c.asked = make(chan struct{})
		go c.ask(c.asked) // it ends with its question, which is bounded
	}
	asked := c.asked
	c.mu.Unlock()
	select {
	case <-asked:
	case <-time.After(patience):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > stale {
		var none T
		return none, errNoAnswer
	}
	return c.answer, c.err
}

func (c *cached[T]) ask(asked chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), asking)
	defer cancel()
	answer, err := c.question(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer, c.err, c.at, c.asked = answer, err, time.Now(), nil
	close(asked)
}
