package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// forcedEnd is how long after a second signal the program still goes on.
const forcedEnd = 1500 * time.Millisecond

// untilStopped gives a context that ends at SIGTERM or SIGINT, or by release. A
// second signal calls hurry, and soon after ends the program whatever it is at;
// a third ends it at once.
func untilStopped(ctx context.Context, hurry func()) (stopping context.Context, release func()) {
	stopping, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	released := make(chan struct{})
	go func() {
		for n := 1; n <= 2; n++ {
			select {
			case <-signals:
			case <-released:
				return
			}
			if n == 1 {
				cancel()
			}
		}
		signal.Stop(signals)
		time.AfterFunc(forcedEnd, func() { os.Exit(exitFailed) })
		hurry()
	}()
	return stopping, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(released)
		cancel()
	})
}
