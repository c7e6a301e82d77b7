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
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/telemetry"
)

// lookEvery is how often the configuration's files are read. They are small, and
// a reading sees what notifications of the file system miss, such as the links by
// which Kubernetes changes a mounted file.
const lookEvery = time.Second

// reloader applies changes of the configuration to a running worker.
type reloader struct {
	app        *app
	start, now configs.Config // as the worker was started; as it was read last
	checks     safetyChecks   // in effect
	list       string         // of prompts, the file that is watched
	engine     inference.Classifier
	processor  *processor.Processor
	consumer   *queue.Consumer
	janitor    *janitor.Janitor
	tracer     *telemetry.Tracer
	log        *slog.Logger
}

// run reads the configuration again when its file or the list of prompts
// changes and on SIGHUP, until ctx ends.
func (r *reloader) run(ctx context.Context) {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	r.list = r.now.Safety.Prompt.List
	read := r.look()
	last := read
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
			last = r.look()
		case <-ticker.C:
			// A file that is away for a moment is being replaced, and one that is not
			// what it was at the last look may still be written.
			now, before := r.look(), last
			last = now
			if now == read || now != before || now.config != read.config && now.config == [sha256.Size]byte{} {
				continue
			}
		}
		read = last
		list := r.list
		r.reload()
		if r.list != list {
			read = r.look()
			last = read
		}
	}
}

// files are the digests of what is watched, zero of a file that is not there.
type files struct{ config, list [sha256.Size]byte }

func (r *reloader) look() files {
	return files{config: digest(configs.File(r.app.configFile, r.app.environ)), list: digest(r.list)}
}

func digest(file string) [sha256.Size]byte {
	data, err := os.ReadFile(file)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sha256.Sum256(data)
}

func (r *reloader) reload() {
	next, sources, err := configs.Load(r.app.configFile, r.app.environ, configs.NeedStorage)
	checks := r.checks
	if err == nil {
		r.list = next.Safety.Prompt.List
		checks, err = r.checks.withPrompt(next.Safety.Prompt)
	}
	if err == nil {
		err = r.consumer.Adjust(settings(next.Job))
	}
	if err != nil {
		r.refuse(err)
		return
	}
	r.app.setLevel(next.Log.Level)
	r.processor.Adjust(processor.Settings{Guard: checks.guard(r.engine), Record: recorder(next.Record)})
	r.janitor.Adjust(retention(next.Retention))
	r.tracer.Sample(next.Tracing.Sample)

	values := map[string]string{}
	for _, s := range configs.Show(next, sources) {
		values[s.Key] = s.Value // secrets are hidden
	}
	changed, waiting := []string{}, []string{}
	for _, key := range configs.Changed(r.now, next) {
		if configs.Live(key) {
			changed = append(changed, key+"="+values[key])
		}
	}
	if before, now := r.checks.options.List, checks.options.List; now != nil && (before == nil || before.Digest() != now.Digest()) {
		changed = append(changed, "the list of safety.prompt.list="+now.Digest())
	}
	for _, key := range configs.Changed(r.start, next) {
		if !configs.Live(key) {
			waiting = append(waiting, key)
		}
	}
	r.now, r.checks = next, checks
	r.log.Info("configuration read again", "changed", changed)
	if shadowed := sources.Shadowed(); len(shadowed) > 0 {
		r.log.Info("variables win over the file", "keys", shadowed)
	}
	if len(waiting) > 0 {
		r.log.Warn("some changes need a restart of the worker", "keys", waiting)
	}
}

// refuse says what is wrong with a new configuration.
func (r *reloader) refuse(err error) {
	const goesOn = "the new configuration is wrong; the worker goes on with the old one"
	problems, ok := errors.AsType[*configs.Problems](err)
	if !ok {
		r.log.Error(goesOn, "error", err)
		return
	}
	for _, p := range problems.List {
		r.log.Error(goesOn, "key", p.Key, "problem", p.Message)
	}
}

func settings(c configs.Job) queue.Settings {
	return queue.Settings{MaxAttempts: c.MaxAttempts, Timeout: c.Timeout, ShutdownGrace: c.ShutdownGrace}
}
