// Package privacy gives users their rights: a hold, by which nothing of a
// subject is processed, erasure with a receipt, and a copy of everything.
//
// A subject is known to the storage by its pseudonym alone. Its jobs are found
// in two places: the index, into which a worker puts each job before it begins
// it, and the queues.
package privacy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// Queue is what the rights of a subject need of the queues.
type Queue interface {
	// Jobs yields every job in every queue, whatever its state.
	Jobs(ctx context.Context) iter.Seq2[Queued, error]
	// Stop ends the work on a job, and reports whether a worker has it in hand.
	// Called again, it tells when that has ended.
	Stop(ctx context.Context, id string) (running bool, err error)
	// Forget deletes every trace of a job that nobody has in hand, and reports
	// whether there was an entry of a queue. It may be repeated.
	Forget(ctx context.Context, id string) (found bool, err error)
	// GoOn lets a job that waits for its next attempt begin that now.
	GoOn(q Queued)
}

// Queued is a job in a queue.
type Queued struct {
	Queue string
	// Job is the job as far as it can be read; its ID is valid.
	Job *job.Job
	// Unreadable: nobody can tell whose it is.
	Unreadable bool
	// Key is the id of the key that it is sealed with, "" for none.
	Key string
	// Active: a worker has it.
	Active bool
	// Waits: it waits for its next attempt.
	Waits bool
}

// Options are what Rights need.
type Options struct {
	Bucket storage.Bucket
	Queue  Queue
	// SubjectKey makes subjects' pseudonyms; the workers have the same.
	SubjectKey []byte
	// Patience is how long an erasure waits for work in hand to end; 0 is two
	// minutes.
	Patience time.Duration
	Log      *slog.Logger
	// Version of the program, for receipts.
	Version string
}

// Rights of subjects.
type Rights struct {
	o Options
}

// New makes Rights.
func New(o Options) *Rights {
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Rights{o}
}

// ErrUnreadable: something in a queue cannot be read, so that nobody can tell
// whose it is.
var ErrUnreadable = errors.New("jobs in the queues cannot be read, and could be the subject's")

// parallel bounds the requests at once.
const parallel = 16

// found is a job of a subject.
type found struct {
	id      string
	inputs  []string // object keys
	marks   []string // of inputs whose keys stand nowhere any more
	indexed bool     // it stands in the index
	queued  *Queued  // nil if it is in no queue
}

// find lists the subject's jobs: those of the queues first, since a worker that
// takes one has put it into the index by the time that it has left its queue.
func (r *Rights) find(ctx context.Context, subject string) (jobs map[string]*found, unreadable []Queued, err error) {
	who := r.pseudonym(subject)
	jobs = map[string]*found{}
	blank := map[string]Queued{}
	for q, err := range r.o.Queue.Jobs(ctx) {
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("look through the queues: %w", err)
		case q.Unreadable:
			blank[q.Job.ID] = q
		case q.Job.Subject != nil && *q.Job.Subject == subject:
			f := &found{id: q.Job.ID, queued: &q}
			for _, key := range q.Job.InputKeys() {
				if storage.ValidInputKey(key) {
					f.inputs = append(f.inputs, key)
				}
			}
			jobs[f.id] = f
		}
	}
	if err := r.readIndex(ctx, who, jobs); err != nil {
		return nil, nil, err
	}
	for id, q := range blank {
		if f, known := jobs[id]; known { // the index tells whose it is
			f.queued = &q
			continue
		}
		unreadable = append(unreadable, q)
	}
	return jobs, unreadable, nil
}

// readIndex adds the jobs that stand in the subject's index.
func (r *Rights) readIndex(ctx context.Context, who string, jobs map[string]*found) error {
	var mu sync.Mutex
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	prefix := storage.SubjectJobs(who)
	var listing error
	for object, err := range r.o.Bucket.List(ctx, prefix) {
		if err != nil {
			listing = fmt.Errorf("list the index: %w", err)
			break
		}
		id := strings.TrimPrefix(object.Key, prefix)
		if !job.ValidID(id) {
			continue
		}
		group.Go(func() error {
			entry, err := r.readEntry(within, object.Key)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			f, known := jobs[id]
			if !known {
				f = &found{id: id}
				jobs[id] = f
			}
			f.indexed = true
			f.inputs, f.marks = union(f.inputs, entry.Inputs), union(f.marks, entry.Marks)
			return nil
		})
	}
	return errors.Join(listing, group.Wait())
}

// readEntry reads an entry of the index.
func (r *Rights) readEntry(ctx context.Context, key string) (entry job.SubjectEntry, err error) {
	data, err := r.o.Bucket.Get(ctx, key, storage.MaxRecord)
	if errors.Is(err, storage.ErrNotFound) {
		return entry, nil // another erasure was here
	}
	if err == nil {
		if json.Unmarshal(data, &entry) == nil {
			entry.Inputs = slices.DeleteFunc(entry.Inputs, func(key string) bool { return !storage.ValidInputKey(key) })
			return entry, nil
		}
		err = storage.ErrCorrupt
	}
	if errors.Is(err, storage.ErrCorrupt) {
		// The job itself is known by the key.
		r.o.Log.WarnContext(ctx, "an entry of the index cannot be read; inputs that the job kept may remain until retention deletes them")
		return job.SubjectEntry{}, nil
	}
	return entry, fmt.Errorf("read the index: %w", err)
}

func (r *Rights) pseudonym(subject string) string { return storage.Pseudonym(r.o.SubjectKey, subject) }

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// each does something for every job, several at a time, in no order.
func each(ctx context.Context, jobs map[string]*found, do func(context.Context, *found) error) error {
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		if within.Err() != nil {
			break
		}
		group.Go(func() error { return do(within, jobs[id]) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
