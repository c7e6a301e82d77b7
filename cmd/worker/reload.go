package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
)

// lookEvery is how often the configuration's file is read. It is small, and a
// reading sees what notifications of the file system miss, such as the links by
// which Kubernetes changes a mounted file.
const lookEvery = 2 * time.Second

// reloader applies changes of the configuration to a running worker.
type reloader struct {
	app       *app
	config    configs.Config // in effect, or waiting for a restart
	processor *processor.Processor
	consumer  *queue.Consumer
	log       *slog.Logger
}

// run reads the configuration again when its file changes and on SIGHUP, until
// ctx ends.
func (r *reloader) run(ctx context.Context) {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	file := configs.File(r.app.configFile, r.app.environ)
	seen := digest(file)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
			seen = digest(file)
		case <-ticker.C:
			// A file that is away for a moment is being replaced.
			now := digest(file)
			if now == seen || now == [sha256.Size]byte{} {
				continue
			}
			seen = now
		}
		r.reload()
	}
}

func digest(file string) [sha256.Size]byte {
	data, err := os.ReadFile(file)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}

func (r *reloader) reload() {
	next, err := r.app.load(configs.NeedStorage)
	if problems, ok := errors.AsType[*configs.Problems](err); ok {
		for _, p := range problems.List {
			r.log.Error("the new configuration is wrong; the worker goes on with the old one", "key", p.Key, "problem", p.Message)
		}
		return
	}
	if err != nil {
		r.log.Error("the configuration cannot be read again", "error", err)
		return
	}
	var applied, waiting []string
	for _, key := range configs.Changed(r.config, next) {
		if configs.Live(key) {
			applied = append(applied, key)
		} else {
			waiting = append(waiting, key)
		}
	}
	if err := r.consumer.Adjust(settings(next.Job)); err != nil {
		r.log.Error("the new configuration is wrong; the worker goes on with the old one", "error", err)
		return
	}
	r.app.setLevel(next.Log.Level)
	r.processor.Adjust(recorder(next.Record))
	r.config = next
	r.log.Info("configuration read again", "changed", applied)
	if len(waiting) > 0 {
		r.log.Warn("some changes need a restart of the worker", "keys", waiting)
	}
}

func settings(c configs.Job) queue.Settings {
	return queue.Settings{MaxAttempts: c.MaxAttempts, Timeout: c.Timeout, ShutdownGrace: c.ShutdownGrace}
}
