package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

// patience bounds what the doctor asks of a service.
const patience = 15 * time.Second

// redis tries the queue's server: reachable, fit, allowed, and what other
// workers there are.
func (d *doctor) redis(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := queue.NewClient(clientOptions(d.config))
	if err != nil {
		d.fail("redis", err, "mend the key in section redis of the configuration")
		return
	}
	defer client.Close()
	start := time.Now()
	facts, err := client.Server(ctx)
	if err != nil {
		do := remedyOf(err, redisRemedies, redisAway)
		if at := connection(d.config.Redis); at.Encrypted() && at.SpeaksPlainText(ctx) {
			do = "this Redis speaks no TLS on that port: give its TLS port, or set redis.tls.enabled to false and write redis:// in redis.url"
		}
		d.fail("redis", err, do)
		return
	}
	d.ok("redis", "version %s answers in %s", or(facts.Version, "unknown (no right to INFO)"), time.Since(start).Round(100*time.Microsecond))
	for _, problem := range facts.Problems() {
		d.warn("redis", problem, "see docs/operations.md, What it needs")
	}
	switch faults := facts.Faults(); {
	case len(faults) > 0:
		for _, fault := range faults {
			d.fail("redis", errors.New(fault), "see docs/operations.md, What it needs")
		}
	default:
		d.rights(ctx, client)
	}
	switch fault := facts.ClockFault(); {
	case fault != "":
		d.fail("clock", errors.New(fault), "set the clock, here or there: chronyc tracking says which is wrong")
	case facts.ClockSkew == 0:
		d.warn("clock", "not compared with that of Redis: the user may not ask", "give the user +time")
	default:
		d.ok("clock", "%s from Redis's", facts.ClockSkew.Abs().Round(time.Millisecond))
	}
	d.others(ctx, client)
}

// rights tries whether Redis takes what a worker writes.
func (d *doctor) rights(ctx context.Context, client *queue.Client) {
	denied, err := client.Rights(ctx)
	// What works all the same without them is said in the package doc of queue.
	var lacking []string
	denied = slices.DeleteFunc(denied, func(right string) bool {
		optional := right == "+scan" || right == "+psubscribe"
		if optional {
			lacking = append(lacking, right)
		}
		return optional
	})
	if len(lacking) > 0 {
		d.warn("redis", "the user lacks "+strings.Join(lacking, " ")+": tasks whose list is lost are not found (+scan), worker top hears of no end (+psubscribe)",
			"give the user these rights; deploy/redis/users.acl has them")
	}
	switch {
	case err != nil:
		d.fail("redis", err, remedyOf(err, redisRemedies, "try again: the connection was lost in the middle"))
	case len(denied) > 0:
		d.fail("redis", fmt.Errorf("the user may not do all that the worker does: %s", strings.Join(denied, " ")),
			"give the user these rights; deploy/redis/users.acl has all that are needed")
	default:
		d.ok("redis", "the user may do all that the worker does")
	}
}

// others compares the workers of this worker's queues: a job must find its
// model wherever it goes.
func (d *doctor) others(ctx context.Context, client *queue.Client) {
	workers, err := client.Workers(ctx)
	if err != nil {
		d.fail("workers", err, "try again")
		return
	}
	catalogue, err := catalogue(d.config.Models.Directory)
	if err != nil {
		return // models says so
	}
	mine := manifests(catalogue)
	same := 0
	for _, w := range workers {
		var shared []string
		for name := range d.config.Queues {
			if w.Queues[name] > 0 {
				shared = append(shared, name)
			}
		}
		if len(shared) == 0 {
			continue
		}
		if maps.Equal(w.Models, mine) {
			same++
			continue
		}
		slices.Sort(shared)
		d.warn("workers", fmt.Sprintf("the worker on %s (process %d) serves %s with other models: %s", w.Host, w.PID, strings.Join(shared, ", "), difference(mine, w.Models)),
			"give all workers of a queue the same models, or other queues")
	}
	d.ok("workers", "%d at work, %d of them on these queues with the same models", len(workers), same)
}

func difference(mine, theirs map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		if digest, there := theirs[name]; !there {
			parts = append(parts, "it lacks "+name)
		} else if digest != mine[name] {
			parts = append(parts, name+" is another version")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		if _, here := mine[name]; !here {
			parts = append(parts, "it has "+name)
		}
	}
	return strings.Join(parts, ", ")
}

// storage writes, writes conditionally, deletes and lists.
func (d *doctor) storage(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bucket, err := openBucket(d.config.Storage)
	if err != nil {
		d.fail("storage", err, "mend section storage of the configuration")
		return
	}
	defer bucket.Close()
	start := time.Now()
	switch err := bucket.Check(ctx); {
	case err == nil:
		d.ok("storage", "%s: written, conditionally refused, read, deleted in %s", d.config.Storage.Kind, time.Since(start).Round(time.Millisecond))
		d.lists(ctx, bucket)
	case errors.Is(err, storage.ErrUnavailable):
		d.fail("storage", err, remedyOf(err, storageRemedies, storageAway))
	default:
		d.fail("storage", err, "use a store that honours If-None-Match (docs/operations.md, What it needs)")
		return
	}
	if d.config.Storage.Kind == "directory" {
		d.disk(d.config.Storage.Directory)
	}
}

// lists tries what the sweep, erasure and export rest on: the first of what lies
// under each prefix, and of the uploads that nobody finished.
func (d *doctor) lists(ctx context.Context, bucket storage.Bucket) {
	for _, prefix := range []string{storage.InputPrefix, storage.ResultPrefix, storage.SubjectPrefix, storage.HoldPrefix, storage.ProbePrefix} {
		for _, err := range bucket.List(ctx, prefix) {
			if err != nil {
				d.fail("storage", fmt.Errorf("%s: %w", prefix, err), remedyOf(err, storageRemedies, storageAway))
				return
			}
			break
		}
	}
	if uploader, ok := bucket.(storage.Uploader); ok {
		for _, err := range uploader.Uploads(ctx) {
			if err != nil {
				d.warn("storage", "uploads that were never finished stay, and may hold a photo: "+err.Error(), remedyOf(err, storageRemedies, storageAway))
				return
			}
			break
		}
	}
	d.ok("storage", "everything that the worker looks for can be listed")
}

// privacy tells whether the promises about a subject's data can be kept.
func (d *doctor) privacy(context.Context) {
	switch p := d.config.Privacy; {
	case p.SubjectKey == "":
		d.warn("privacy", "jobs that name a subject are refused: nobody could find them again to erase them", "set privacy.subject_key, the same for all workers (openssl rand -hex 32); or let no job name a subject")
	case p.ReceiptKey == "":
		d.ok("privacy", "a subject's jobs can be found again; worker erase needs privacy.receipt_key, which is not set here")
	default:
		d.ok("privacy", "a subject's jobs can be found again, and receipts of erasure are signed")
	}
	if d.config.Retention.Results == 0 {
		d.warn("retention", "pictures and their records are kept for ever", "set retention.results to what users were promised (docs/rights.md, Retention), if nothing else deletes them")
	} else {
		d.ok("retention", "pictures are kept for %s", d.config.Retention.Results)
	}
}

// http tries the address of metrics and health.
func (d *doctor) http(ctx context.Context) {
	address := d.config.HTTP.Address
	if address == "" {
		d.ok("http", "metrics and health are off")
		return
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		_ = listener.Close()
		d.ok("http", "%s is free for metrics and health", address)
	case isWorker(ctx, address):
		d.ok("http", "a worker serves metrics and health on %s", address)
	default:
		err = fmt.Errorf("the address of metrics and health cannot be had, nor does a worker answer there: %w", err)
		d.fail("http", &exitError{status: exitConfig, err: err}, "give http.address another port, or end the program that has this one")
	}
}

// isWorker reports whether somebody answers at the address as a worker does.
func isWorker(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var report struct {
		Ready  *bool             `json:"ready"`
		Checks map[string]string `json:"checks"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&report)
	return err == nil && report.Ready != nil && len(report.Checks) > 0
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
