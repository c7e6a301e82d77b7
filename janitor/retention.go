package janitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// Retention is how long things are kept, from when they were put; 0 is for ever.
type Retention struct {
	// Inputs are photos and masks: those that no job has deleted, and those that
	// several jobs share.
	Inputs time.Duration
	// Results are the images and records of jobs that are done.
	Results time.Duration
	// Failed are the records of jobs that failed or were cancelled. An erased
	// job's stays: it is all that keeps a late duplicate from bringing it back.
	Failed time.Duration
}

// The kinds of findings of retention.
const (
	OldInput  Kind = "photo past its retention"
	OldResult Kind = "result past its retention"
	OldRecord Kind = "record of a failed job past its retention"
	OldEntry  Kind = "index entry of a job that is gone"
)

// stale is the age from which the entry of a job without a record goes: longer
// than any job is worked on. While one is tried its entry is put anew.
const stale = 8 * 24 * time.Hour

// held is what belongs to subjects on hold; nothing of it goes.
type held struct {
	subjects, jobs, inputs map[string]bool
}

func (j *Janitor) held(ctx context.Context) (held, error) {
	h := held{subjects: map[string]bool{}, jobs: map[string]bool{}, inputs: map[string]bool{}}
	for hold, err := range j.o.Bucket.List(ctx, storage.HoldPrefix) {
		if err != nil {
			return h, fmt.Errorf("list holds: %w", err)
		}
		who := strings.TrimPrefix(hold.Key, storage.HoldPrefix)
		h.subjects[who] = true
		for object, err := range j.o.Bucket.List(ctx, storage.SubjectJobs(who)) {
			if err != nil {
				return h, fmt.Errorf("list the index: %w", err)
			}
			h.jobs[strings.TrimPrefix(object.Key, storage.SubjectJobs(who))] = true
			inputs, err := j.inputs(ctx, object.Key)
			if errors.Is(err, storage.ErrCorrupt) {
				j.o.Log.WarnContext(ctx, "an entry of the index cannot be read; photos of a subject on hold may go", "error", err)
			} else if err != nil {
				return h, err
			}
			for _, key := range inputs {
				h.inputs[key] = true
			}
		}
	}
	return h, nil
}

// inputs are what an entry of the index names.
func (j *Janitor) inputs(ctx context.Context, key string) ([]string, error) {
	data, err := j.o.Bucket.Get(ctx, key, storage.MaxRecord)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	var entry job.SubjectEntry
	if json.Unmarshal(data, &entry) != nil {
		return nil, fmt.Errorf("read the index: %w", storage.ErrCorrupt)
	}
	return entry.Inputs, nil
}

// retain deletes a job's results if they are past their retention, and reports
// whether they were. It can be cut short anywhere: images go first, and the
// account of deletions last, since the next sweep tells by it what it has before
// it. What the listing shows spares reading most records: a job that has images
// is done, and one that has neither them nor the account is erased.
func (j *Janitor) retain(ctx context.Context, l leftovers, intact map[string]listed, clean func(Finding)) (bool, error) {
	remove := func(kind Kind, objects ...storage.Object) {
		for _, object := range objects {
			clean(Finding{Kind: kind, Key: object.Key, Size: object.Size, Age: time.Since(object.Modified)})
		}
	}
	switch {
	case l.record == nil && l.deletions != nil && len(l.images) == 0 && time.Since(l.deletions.Modified) >= j.o.Orphan:
		remove(OldRecord, *l.deletions) // its record went before
		return true, nil
	case l.record == nil || len(l.images) == 0 && l.deletions == nil:
		return false, nil
	}
	age := time.Since(l.record.Modified)
	results, failed := past(age, j.o.Retention.Results), past(age, j.o.Retention.Failed)
	if !results && (len(l.images) > 0 || !failed) {
		return false, nil
	}
	now := listed{l.newest, len(l.images)}
	if len(l.images) == 0 && !failed && j.intact[l.id] == now { // it is not done
		intact[l.id] = now
		return false, nil
	}
	data, err := j.o.Bucket.Get(ctx, storage.RecordKey(l.id), storage.MaxRecord)
	if err != nil {
		return false, fmt.Errorf("read record: %w", err)
	}
	record, err := job.DecodeRecord(data)
	if err != nil || record.State == job.Erased {
		return false, nil //nolint:nilerr // what cannot be read is no reason to delete
	}
	kind, images, due := OldRecord, LostImage, failed
	if record.State == job.Done {
		kind, images, due = OldResult, OldResult, results
	}
	if !due {
		if len(l.images) == 0 {
			intact[l.id] = now
		}
		return false, nil
	}
	remove(images, l.images...)
	remove(kind, *l.record)
	if l.deletions != nil {
		remove(kind, *l.deletions)
	}
	return true, nil
}

func past(age, limit time.Duration) bool { return limit != 0 && age >= limit }

func (j *Janitor) sweepInputs(ctx context.Context, held held, clean func(Finding)) error {
	limit := j.retention.Load().Inputs
	if limit == 0 {
		return nil
	}
	for object, err := range j.o.Bucket.List(ctx, storage.InputPrefix) {
		if err != nil {
			return fmt.Errorf("list inputs: %w", err)
		}
		owner, _, _ := strings.Cut(strings.TrimPrefix(object.Key, storage.InputPrefix), "/")
		if age := time.Since(object.Modified); age >= limit && !held.inputs[object.Key] && !held.jobs[owner] {
			clean(Finding{Kind: OldInput, Key: object.Key, Size: object.Size, Age: age})
		}
	}
	return nil
}

// sweepIndex deletes the entries of jobs of which nothing is left.
func (j *Janitor) sweepIndex(ctx context.Context, held held, known ids, dry bool, clean func(Finding)) error {
	known.sort()
	for object, err := range j.o.Bucket.List(ctx, storage.SubjectPrefix) {
		if err != nil {
			return fmt.Errorf("list the index: %w", err)
		}
		who, id, ok := strings.Cut(strings.TrimPrefix(object.Key, storage.SubjectPrefix), "/")
		age := time.Since(object.Modified)
		if !ok || age < stale || held.subjects[who] || known.has(id) {
			continue
		}
		if err := j.sweepEntry(ctx, object, id, dry, clean); err != nil {
			return err
		}
	}
	return nil
}

func (j *Janitor) sweepEntry(ctx context.Context, object storage.Object, id string, dry bool, clean func(Finding)) error {
	inputs, err := j.inputs(ctx, object.Key)
	if errors.Is(err, storage.ErrCorrupt) {
		return nil // what cannot be read is no reason to delete
	}
	if err != nil {
		return err
	}
	for _, key := range inputs {
		if _, err := j.o.Bucket.Stat(ctx, key); !errors.Is(err, storage.ErrNotFound) {
			return err // it is there, and by the entry alone it is known whose it is
		}
	}
	clean(Finding{Kind: OldEntry, Key: object.Key, Size: object.Size, Age: time.Since(object.Modified)})
	if dry {
		return nil
	}
	// A job that came to an end this very moment must be found.
	if _, err := j.o.Bucket.Stat(ctx, storage.RecordKey(id)); err != nil {
		return ignoreNotFound(err)
	}
	data, err := json.Marshal(job.SubjectEntry{Version: job.Version, ID: id, Inputs: inputs})
	if err != nil {
		return fmt.Errorf("encode index entry: %w", err)
	}
	if err := j.o.Bucket.Put(ctx, object.Key, data, storage.PutOptions{ContentType: "application/json"}); err != nil {
		return fmt.Errorf("put index entry: %w", err)
	}
	return nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

// ids is a set of job ids in little room: two that fall together would only let
// an entry of the index stay.
type ids struct{ hashes []uint64 }

func hashOf(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	return h.Sum64()
}

func (s *ids) add(id string) { s.hashes = append(s.hashes, hashOf(id)) }

func (s *ids) sort() { slices.Sort(s.hashes) }

func (s *ids) has(id string) bool {
	_, found := slices.BinarySearch(s.hashes, hashOf(id))
	return found
}
