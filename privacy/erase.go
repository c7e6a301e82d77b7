package privacy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// ErrBusy: a worker has a job of the subject in hand and does not let go.
var ErrBusy = errors.New("a worker still has work of the subject in hand")

// Erase removes everything of the subject's: what waits, runs, has ended or was
// left half-done. Of each job only a record stays that says so. Its steps are
// ordered so that whoever kills it at any moment may call it again:
//
//   - a hold, so that no job begins
//   - for each job an entry in the index, by which a later call finds it, and the
//     erased record, with which every attempt's commit loses
//   - work in hand ends
//   - objects, with all versions, unfinished uploads and traces in Redis go,
//     until a pass finds nothing
//   - the index, and the hold if it is an erasure's
//
// The receipt counts what this call did. With an error the erasure is not
// complete, and the hold stays.
func (r *Rights) Erase(ctx context.Context, subject string) (Receipt, error) {
	who := r.pseudonym(subject)
	e := &erasure{Rights: r, subject: subject, who: who, start: time.Now(), tally: newTally(r.o.SubjectKey)}
	var err error
	if e.resumed, err = r.holdForErasure(ctx, who); err != nil {
		return Receipt{}, err
	}
	for _, step := range []func(context.Context) error{e.condemn, e.await, e.wipe, e.unlist} {
		if err := step(ctx); err != nil {
			return Receipt{}, err
		}
	}
	kept, err := e.release(ctx)
	if err != nil {
		return Receipt{}, err
	}
	return e.receipt(kept), nil
}

// erasure is one call of Erase.
type erasure struct {
	*Rights

	subject, who string
	start        time.Time
	resumed      bool
	jobs         map[string]*found
	tally        *tally
}

// condemn decides the fate of every job of the subject, until no more are found.
func (e *erasure) condemn(ctx context.Context) error {
	e.jobs = map[string]*found{}
	for {
		jobs, unreadable, err := e.find(ctx, e.subject)
		if err != nil {
			return err
		}
		news := map[string]*found{}
		for id, f := range jobs {
			if before, known := e.jobs[id]; known {
				before.inputs, before.marks = union(before.inputs, f.inputs), union(before.marks, f.marks)
				continue
			}
			news[id], e.jobs[id] = f, f
		}
		if len(news) == 0 && len(unreadable) > 0 {
			return errors.Join(ErrUnreadable, describe(unreadable))
		}
		if len(news) == 0 {
			return nil
		}
		if err := each(ctx, news, e.condemnOne); err != nil {
			return err
		}
	}
}

// describe names what nobody can tell whose it is, and what to do.
func describe(unreadable []Queued) error {
	const most = 10
	var names []string
	for _, q := range unreadable[:min(len(unreadable), most)] {
		name := q.Job.ID
		if q.Key != "" {
			name += " (sealed with key " + q.Key + ")"
		}
		names = append(names, name)
	}
	if more := len(unreadable) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s. Those that are not sealed a worker that runs ends; for the others put the key into seal.directory, or end those whose key is lost by worker cancel --without-key; then run it again",
		strings.Join(names, ", "))
}

func (e *erasure) condemnOne(ctx context.Context, f *found) error {
	e.tally.job(f.id)
	if !f.indexed || f.queued != nil && len(f.inputs) > 0 {
		data, err := json.Marshal(job.SubjectEntry{Version: job.Version, ID: f.id, Inputs: f.inputs, Marks: f.marks})
		if err != nil {
			return fmt.Errorf("encode index entry: %w", err)
		}
		if err := e.o.Bucket.Put(ctx, storage.SubjectKey(e.who, f.id), data, asJSON); err != nil {
			return fmt.Errorf("put index entry: %w", err)
		}
	}
	if err := e.tombstone(ctx, f.id); err != nil {
		return err
	}
	_, err := e.o.Queue.Stop(ctx, f.id)
	return err
}

// tombstone is the only write that ever replaces a record, and nothing replaces
// what it puts.
func (e *erasure) tombstone(ctx context.Context, id string) error {
	if data, err := e.o.Bucket.Get(ctx, storage.RecordKey(id), storage.MaxRecord); err == nil {
		if r, err := job.DecodeRecord(data); err == nil && r.State == job.Erased {
			return nil
		}
	}
	now := time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(job.Record{Version: job.Version, ID: id, State: job.Erased, ErasedAt: &now})
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if err := e.o.Bucket.Put(ctx, storage.RecordKey(id), data, asJSON); err != nil {
		return fmt.Errorf("put erased record: %w", err)
	}
	return nil
}

// await returns when no worker has a job of the subject in hand.
func (e *erasure) await(ctx context.Context) error {
	const pause = 100 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(ctx, e.o.Patience, ErrBusy)
	defer cancel()
	return each(ctx, e.jobs, func(ctx context.Context, f *found) error {
		for {
			running, err := e.o.Queue.Stop(ctx, f.id)
			if err != nil || !running {
				return err
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return fmt.Errorf("wait for job %s: %w; run it again, the job can come to nothing any more", f.id, context.Cause(ctx))
			}
		}
	})
}

// passes bounds how often something is found that comes from an attempt that
// was thought dead.
const passes = 10

var errUnrest = errors.New("something new was found in every pass: run it again")

// wipe deletes everything but the records, until a pass finds nothing.
func (e *erasure) wipe(ctx context.Context) error {
	for range passes {
		before := e.tally.count()
		if err := e.wipeUploads(ctx); err != nil {
			return err
		}
		if err := each(ctx, e.jobs, e.wipeOne); err != nil {
			return err
		}
		if e.tally.count() == before {
			return nil
		}
	}
	return errUnrest
}

func (e *erasure) wipeOne(ctx context.Context, f *found) error {
	places := append([]string{storage.ResultsOf(f.id), storage.InputsOf(f.id)}, f.inputs...)
	for _, place := range places {
		for v, err := range e.o.Bucket.Versions(ctx, place) {
			if err != nil {
				return fmt.Errorf("list versions: %w", err)
			}
			tombstone := v.Key == storage.RecordKey(f.id) && v.Current && !v.Deleted
			if tombstone || v.Key != place && !strings.HasSuffix(place, "/") {
				continue // a neighbour, whose key goes on
			}
			if err := e.o.Bucket.Remove(ctx, v); err != nil {
				return fmt.Errorf("remove object: %w", err)
			}
			e.tally.object(v)
		}
	}
	inQueue, err := e.o.Queue.Forget(ctx, f.id)
	if inQueue {
		e.tally.entry()
	}
	return err
}

// wipeUploads aborts what producers began to upload for the subject's jobs.
func (e *erasure) wipeUploads(ctx context.Context) error {
	bucket, ok := e.o.Bucket.(storage.Uploader)
	if !ok {
		return nil
	}
	inputs, marks := map[string]bool{}, map[string]bool{}
	for _, f := range e.jobs {
		for _, key := range f.inputs {
			inputs[key] = true
		}
		for _, mark := range f.marks {
			marks[mark] = true
		}
	}
	for u, err := range bucket.Uploads(ctx) {
		if err != nil {
			return fmt.Errorf("list uploads: %w", err)
		}
		if !inputs[u.Key] && !marks[storage.InputMark(e.o.SubjectKey, u.Key)] && e.jobs[owner(u.Key)] == nil {
			continue
		}
		if err := bucket.Abort(ctx, u); err != nil {
			return fmt.Errorf("abort upload: %w", err)
		}
		e.tally.upload()
	}
	return nil
}

// owner is the job to which a key belongs by its form, "" if none.
func owner(key string) string {
	for _, prefix := range []string{storage.ResultPrefix, storage.InputPrefix} {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			if id, _, ok := strings.Cut(rest, "/"); ok {
				return id
			}
		}
	}
	return ""
}

// unlist removes the index. It comes last: by it an erasure that was cut short
// finds what it was about.
func (e *erasure) unlist(ctx context.Context) error {
	err := each(ctx, e.jobs, func(ctx context.Context, f *found) error {
		if err := e.o.Bucket.Delete(ctx, storage.SubjectKey(e.who, f.id)); err != nil {
			return fmt.Errorf("remove index entry: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return e.unlistVersions(ctx)
}

// unlistVersions removes what an erasure that was killed in unlist left: earlier
// versions of entries that are gone.
func (e *erasure) unlistVersions(ctx context.Context) error {
	var left []storage.Version
	live := map[string]bool{} // enqueued since; it waits, and is not of this erasure
	for v, err := range e.o.Bucket.Versions(ctx, storage.SubjectJobs(e.who)) {
		if err != nil {
			return fmt.Errorf("list the index: %w", err)
		}
		left = append(left, v)
		live[v.Key] = live[v.Key] || v.Current && !v.Deleted
	}
	for _, v := range left {
		if live[v.Key] {
			continue
		}
		if err := e.o.Bucket.Remove(ctx, v); err != nil {
			return fmt.Errorf("remove index entry: %w", err)
		}
	}
	return nil
}

// release ends the hold unless it is an operator's.
func (e *erasure) release(ctx context.Context) (kept bool, err error) {
	ours, err := e.heldByErasure(ctx, e.who)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case !ours:
		return true, nil
	}
	if err := e.o.Bucket.Delete(ctx, storage.HoldKey(e.who)); err != nil {
		return false, fmt.Errorf("release hold: %w", err)
	}
	return false, nil
}
