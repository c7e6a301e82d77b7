// Package janitor deletes what crashes leave behind in the storage, images that
// no record names, uploads that were never finished, and probes, and what is
// past its retention. It works job by job in one pass over the listing, keeps no
// state, and may run on every worker at once.
package janitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// Kind says what a finding is.
type Kind string

// The kinds of findings.
const (
	// LostImage: another attempt's record stands.
	LostImage Kind = "image of an attempt that lost"
	// OrphanImage: no record came of the attempt.
	OrphanImage Kind = "image of a job without a record"
	// Probe: left by a worker that ended while it tried the storage.
	Probe Kind = "probe"
	// Unfinished: what its writer has begun and not ended.
	Unfinished Kind = "upload that was never finished"
)

// Kinds lists every kind, those of retention too.
func Kinds() []Kind {
	return []Kind{LostImage, OrphanImage, Probe, Unfinished, OldInput, OldResult, OldRecord, OldEntry}
}

// Finding is something that is left over.
type Finding struct {
	Kind Kind          `json:"kind"`
	Key  string        `json:"key"`
	Size int64         `json:"bytes"`
	Age  time.Duration `json:"-"`
}

// Options configure a Janitor. Zero durations have defaults.
type Options struct {
	Bucket storage.Bucket
	// Every is the pause between two sweeps; about, so that workers do not all
	// sweep at once. Default: one hour.
	Every time.Duration
	// Lost is the age from which an image that its job's record does not name
	// goes: an attempt may be about to delete it itself. Default: one hour.
	Lost time.Duration
	// Orphan is the age from which an image without a record goes, and an upload
	// that was not finished; above the longest time between an attempt's first
	// image and its record. Default: a day.
	Orphan time.Duration
	// Settled is the age of a job's newest object from which Run takes no more
	// notice of it: every sweep until then has. So the work of a sweep does not
	// grow with the bucket, but for the listing. Default: a week.
	Settled time.Duration
	// Retention is how long what is not left over is kept.
	Retention Retention
	// Deleted, if not nil, is told of each deletion.
	Deleted func(Kind)
	Log     *slog.Logger
}

// Janitor sweeps a bucket. Run and Sweep are not for use at the same time.
type Janitor struct {
	o         Options
	retention atomic.Pointer[Retention]
	// intact are the jobs in which the last sweep found nothing left over, or not
	// yet past its retention, as they were listed: until that changes, their
	// records need not be read again.
	intact map[string]listed
}

// listed is what a listing tells of a job's objects. A record that comes or is
// written over, or an image that comes late, is newer than all before.
type listed struct {
	newest time.Time
	images int
}

// New makes a Janitor.
func New(o Options) *Janitor {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&o.Every, time.Hour}, {&o.Lost, time.Hour}, {&o.Orphan, 24 * time.Hour}, {&o.Settled, 7 * 24 * time.Hour}} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	j := &Janitor{o: o}
	j.Adjust(o.Retention)
	return j
}

// Adjust changes how long things are kept. It may be called during a sweep.
func (j *Janitor) Adjust(r Retention) { j.retention.Store(&r) }

// Run sweeps now and then until ctx ends. A sweep that fails is logged, and the
// next one begins anew.
func (j *Janitor) Run(ctx context.Context) {
	wait := time.Duration(rand.Int64N(int64(time.Minute))) //nolint:gosec // only so that workers that start together sweep apart
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		n := 0
		err := j.sweep(ctx, false, j.o.Settled, func(Finding) { n++ })
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			j.o.Log.WarnContext(ctx, "the sweep of the storage was cut short", "error", err, "deleted", n)
		case n > 0:
			j.o.Log.InfoContext(ctx, "swept the storage", "deleted", n)
		}
		wait = j.o.Every/2 + time.Duration(rand.Int64N(int64(j.o.Every))) //nolint:gosec // as above
	}
}

// Sweep visits everything that is left over and, unless dry, deletes it. It goes
// on after a deletion that fails; the error has them all.
func (j *Janitor) Sweep(ctx context.Context, dry bool, visit func(Finding)) error {
	return j.sweep(ctx, dry, math.MaxInt64, visit)
}

// sweep leaves out the jobs that are settled.
func (j *Janitor) sweep(ctx context.Context, dry bool, settled time.Duration, visit func(Finding)) error {
	var failures []error
	clean := func(f Finding, remove func() error) {
		if !dry {
			if err := remove(); err != nil {
				failures = append(failures, err)
				return
			}
			if j.o.Deleted != nil {
				j.o.Deleted(f.Kind)
			}
		}
		visit(f)
	}
	object := func(f Finding) {
		key := f.Key
		if f.Kind == OldInput {
			f.Key = storage.InputPrefix + "…" // the rest may be a user's file name
		}
		clean(f, func() error { return j.o.Bucket.Delete(ctx, key) })
	}
	held, err := j.held(ctx)
	var known ids
	if err == nil {
		known, err = j.sweepResults(ctx, settled, held, object)
	}
	if err == nil {
		err = j.sweepInputs(ctx, held, object)
	}
	if err == nil {
		err = j.sweepIndex(ctx, held, known, dry, object)
	}
	if err == nil {
		err = j.sweepProbes(ctx, object)
	}
	if err == nil {
		j.sweepUploads(ctx, clean)
	}
	return errors.Join(append(failures, err)...)
}

// leftovers are what the listing has of one job.
type leftovers struct {
	id                string
	images            []storage.Object // all that is no JSON
	record, deletions *storage.Object
	newest            time.Time
}

// sweepResults goes through the results job by job, as the listing has them, and
// gives the jobs that it has seen.
func (j *Janitor) sweepResults(ctx context.Context, settled time.Duration, held held, clean func(Finding)) (known ids, err error) {
	var l leftovers
	intact := map[string]listed{}
	settle := func() error {
		if l.id == "" {
			return nil
		}
		known.add(l.id)
		if !held.jobs[l.id] {
			gone, err := j.retain(ctx, l, intact, clean)
			if err != nil || gone {
				return err
			}
		}
		images := slices.DeleteFunc(l.images, func(o storage.Object) bool { return time.Since(o.Modified) < j.o.Lost })
		if len(images) == 0 || time.Since(l.newest) >= settled {
			return nil
		}
		now, ok := listed{l.newest, len(l.images)}, len(images) == len(l.images)
		if before, known := j.intact[l.id]; !known || before != now {
			all, err := j.sweepJob(ctx, l.id, images, clean)
			if err != nil {
				return err
			}
			ok = ok && all
		}
		if ok {
			intact[l.id] = now
		}
		return nil
	}
	for object, err := range j.o.Bucket.List(ctx, storage.ResultPrefix) {
		if err != nil {
			return known, fmt.Errorf("list results: %w", err)
		}
		owner, _, ok := strings.Cut(strings.TrimPrefix(object.Key, storage.ResultPrefix), "/")
		if !ok {
			continue
		}
		if owner != l.id {
			if err := settle(); err != nil {
				return known, err
			}
			l = leftovers{id: owner}
		}
		if object.Modified.After(l.newest) {
			l.newest = object.Modified
		}
		switch object.Key {
		case storage.RecordKey(owner):
			l.record = &object
		case storage.DeletionsKey(owner):
			l.deletions = &object
		default:
			if !strings.HasSuffix(object.Key, ".json") {
				l.images = append(l.images, object)
			}
		}
	}
	err = settle()
	j.intact = intact
	return known, err
}

// sweepJob cleans one job's images. They are old enough for the record to be
// read; it is read last, after the listing, so that an image that the record
// names is never taken for a lost one. It reports whether the record names all
// of them.
func (j *Janitor) sweepJob(ctx context.Context, id string, images []storage.Object, clean func(Finding)) (all bool, err error) {
	data, err := j.o.Bucket.Get(ctx, storage.RecordKey(id), storage.MaxRecord)
	missing := errors.Is(err, storage.ErrNotFound)
	if err != nil && !missing {
		return false, fmt.Errorf("read record: %w", err)
	}
	named := map[string]bool{}
	if !missing {
		record, err := job.DecodeRecord(data)
		if err != nil {
			return false, nil //nolint:nilerr // what cannot be read is no reason to delete
		}
		for _, image := range record.Images {
			named[image.Key] = true
		}
	}
	all = !missing
	for _, object := range images {
		age := time.Since(object.Modified)
		all = all && named[object.Key]
		switch {
		case missing && age >= j.o.Orphan:
			clean(Finding{Kind: OrphanImage, Key: object.Key, Size: object.Size, Age: age})
		case !missing && !named[object.Key]:
			clean(Finding{Kind: LostImage, Key: object.Key, Size: object.Size, Age: age})
		}
	}
	return all, nil
}

func (j *Janitor) sweepProbes(ctx context.Context, clean func(Finding)) error {
	for object, err := range j.o.Bucket.List(ctx, storage.ProbePrefix) {
		if err != nil {
			return fmt.Errorf("list probes: %w", err)
		}
		if age := time.Since(object.Modified); age >= j.o.Lost {
			clean(Finding{Kind: Probe, Key: object.Key, Size: object.Size, Age: age})
		}
	}
	return nil
}

// sweepUploads is told apart from the rest: a key that may work on objects need
// not have the right to this, and the bucket's own lifecycle may do it too.
func (j *Janitor) sweepUploads(ctx context.Context, clean func(Finding, func() error)) {
	bucket, ok := j.o.Bucket.(storage.Uploader)
	if !ok {
		return
	}
	for upload, err := range bucket.Uploads(ctx) {
		if err != nil {
			j.o.Log.InfoContext(ctx, "unfinished uploads cannot be looked for", "error", err)
			return
		}
		if age := time.Since(upload.Begun); upload.Abandoned || age >= j.o.Orphan {
			key := "…"
			if folder, _, ok := strings.Cut(upload.Key, "/"); ok {
				key = folder + "/…" // the rest may be a user's file name
			}
			clean(Finding{Kind: Unfinished, Key: key, Size: upload.Size, Age: age}, func() error { return bucket.Abort(ctx, upload) })
		}
	}
}
