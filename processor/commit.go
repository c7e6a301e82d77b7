package processor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// publish puts the images under the attempt's own keys. They stay invisible
// until the record names them.
func (p *Processor) publish(ctx context.Context, id string, a job.Attempt, images []inference.Image) ([]job.Image, error) {
	out := make([]job.Image, len(images))
	for i, image := range images {
		key := storage.ImageKey(id, a.ID, i, image.Format)
		failpoint.Hit(failpoint.BeforeImagePut)
		err := p.insist(ctx, func() error {
			write, release := landingContext(ctx)
			defer release()
			return p.bucket.Put(write, key, image.Data, storage.PutOptions{ContentType: image.Format.ContentType()})
		})
		if err == nil && ctx.Err() != nil {
			err = ctx.Err() // it landed, and is to be withdrawn
		}
		if err != nil {
			return nil, p.unavailable(ctx, err, "the images cannot be stored")
		}
		failpoint.Hit(failpoint.AfterImagePut)
		out[i] = p.record.Load().Image(key, image)
	}
	return out, nil
}

// landingContext is for a write that must not be cut off when ctx ends: a storage
// may do what it was asked for long after the asker has gone, behind the back of
// whoever then deletes what there is.
func landingContext(ctx context.Context) (context.Context, context.CancelFunc) {
	write, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(landing, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(write, func() { timer.Stop() })
	})
	return write, func() {
		stop()
		cancel(nil)
	}
}

// insist tries again while the storage is away, as long as a finished picture
// is worth it.
func (p *Processor) insist(ctx context.Context, try func() error) error {
	const longest = 2 * time.Second
	deadline := time.Now().Add(p.patience)
	wait := 200 * time.Millisecond
	for {
		err := try()
		if err == nil || !errors.Is(err, storage.ErrUnavailable) || time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
		wait = min(2*wait, longest)
	}
}

// errUndecided: a commit was given up. Its record may still land, and its images
// are left to the janitor, which looks when that is over.
var errUndecided = errors.New("whether the record was stored is not known")

// commit puts the record if there is none, and returns the record that stands:
// r, or an earlier one. Whose it is, is decided by the attempt id alone: a put
// that was answered with "exists" or not at all may have been the first.
func (p *Processor) commit(ctx context.Context, r *job.Record) (*job.Record, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	stands := r
	failpoint.Hit(failpoint.BeforeCommit)
	err = p.insist(ctx, func() error {
		write, release := landingContext(ctx)
		defer release()
		err := p.bucket.PutIfAbsent(write, storage.RecordKey(r.ID), data, storage.PutOptions{ContentType: "application/json"})
		if err == nil {
			return nil
		}
		found, readErr := p.readRecord(write, r.ID)
		if readErr == nil {
			stands = found
			return nil
		}
		if errors.Is(readErr, storage.ErrNotFound) {
			return err
		}
		return errors.Join(err, readErr)
	})
	if err != nil {
		return nil, errors.Join(errUndecided, p.unavailable(ctx, err, "the record cannot be stored"))
	}
	failpoint.Hit(failpoint.AfterCommit)
	return stands, nil
}

// readRecord reads the record that stands. One that nobody can read decides all
// the same: another can never be put in its place.
func (p *Processor) readRecord(ctx context.Context, id string) (*job.Record, error) {
	data, err := p.bucket.Get(ctx, storage.RecordKey(id), storage.MaxRecord)
	if err == nil {
		r, decodeErr := job.DecodeRecord(data)
		if decodeErr == nil {
			return r, nil
		}
		err = decodeErr
	} else if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrTooLarge) {
		return nil, fmt.Errorf("read record: %w", err)
	}
	p.log.ErrorContext(ctx, "a record stands that cannot be read; the job ends as failed", "job_id", id, "error", err)
	return &job.Record{
		Version: job.Version, ID: id, State: job.Failed,
		Error: job.Errorf(job.Internal, "the job's record in the storage cannot be read"),
	}, nil
}

// withdraw deletes the attempt's images, as far as the storage lets it; the
// janitor finds the rest. It works on after ctx has ended.
func (p *Processor) withdraw(ctx context.Context, id string, a job.Attempt) {
	settle, release := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer release()
	// A commit whose answer was lost may have landed: then the images are the
	// job's. So may they be if the record cannot be read; one that is erased or
	// cancelled has none.
	r, err := p.readRecord(settle, id)
	ours := err == nil && r.State != job.Erased && r.State != job.Cancelled && (r.Attempt == nil || r.Attempt.ID == a.ID)
	unknown := err != nil && !errors.Is(err, storage.ErrNotFound)
	if ours || unknown {
		return
	}
	for object, err := range p.bucket.List(settle, storage.ImagesOf(id, a.ID)) {
		if err == nil {
			err = p.bucket.Delete(settle, object.Key)
		}
		if err != nil {
			p.log.Warn("an attempt's images could not be deleted", "job_id", id, "attempt", a.ID, "error", err)
			return
		}
	}
}

// finish deletes what the job left behind and says so; gone is what went before.
// It may be repeated. It goes on when ctx ends: the outcome is decided, and what
// is left is a photo.
func (p *Processor) finish(ctx context.Context, j *job.Job, r *job.Record, gone []string) (job.Outcome, error) {
	ctx, release := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer release()
	deletions := job.Deletions{Version: job.Version, ID: j.ID, Deleted: []job.Deletion{}}
	add := func(what string) {
		deletions.Deleted = append(deletions.Deleted, job.Deletion{What: what, At: time.Now().UTC()})
	}
	for _, what := range gone {
		add(what)
	}
	for _, input := range []struct {
		what string
		key  *string
	}{{"input", j.Input}, {"mask", j.Mask}} {
		if input.key == nil || j.KeepInput && r.State != job.Erased || !storage.ValidInputKey(*input.key) {
			continue
		}
		// Only where it may be missing is it looked for: nothing is claimed that
		// was not done.
		if r.Error != nil && r.Error.Code == job.InputMissing {
			if _, err := p.bucket.Stat(ctx, *input.key); errors.Is(err, storage.ErrNotFound) {
				continue
			}
		}
		failpoint.Hit(failpoint.BeforeInputDelete)
		if err := p.bucket.Delete(ctx, *input.key); err != nil {
			return job.Outcome{}, p.unavailable(ctx, err, "the "+input.what+" cannot be deleted")
		}
		failpoint.Hit(failpoint.AfterInputDelete)
		add(input.what)
	}
	if r.State == job.Erased {
		return outcome(r), p.erased(ctx, j)
	}
	data, err := json.Marshal(deletions)
	if err != nil {
		return job.Outcome{}, fmt.Errorf("encode deletions: %w", err)
	}
	err = p.bucket.PutIfAbsent(ctx, storage.DeletionsKey(j.ID), data, storage.PutOptions{ContentType: "application/json"})
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return job.Outcome{}, p.unavailable(ctx, err, "what was deleted cannot be recorded")
	}
	failpoint.Hit(failpoint.DeletionsRecorded)
	return outcome(r), nil
}

func outcome(r *job.Record) job.Outcome {
	o := job.Outcome{State: r.State, RecordKey: storage.RecordKey(r.ID), Record: r}
	if r.Error != nil {
		o.Code = r.Error.Code
	}
	return o
}
