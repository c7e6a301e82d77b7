package processor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// admit puts the job into the index of its subject, where erasure and export
// find it, before anything is made for it. It gives job.ErrHeld while the subject
// is on hold.
//
// The hold is looked at again afterwards: an erasure puts the hold first and
// reads the index then, so that one of the two sees the other.
func (p *Processor) admit(ctx context.Context, j *job.Job) error {
	if j.Subject == nil {
		return nil
	}
	if len(p.subjects) == 0 {
		return job.Errorf(job.InvalidJob, "subject: this worker could not find the job again to erase it; its operator must set privacy.subject_key")
	}
	if err := p.index(ctx, j); err != nil {
		return err
	}
	return p.held(ctx, j)
}

// index puts the job into the index of its subject.
func (p *Processor) index(ctx context.Context, j *job.Job) error {
	if j.Subject == nil || len(p.subjects) == 0 {
		return nil
	}
	entry := job.SubjectEntry{Version: job.Version, ID: j.ID}
	for _, key := range j.InputKeys() {
		switch {
		case !storage.ValidInputKey(key):
		case j.KeepInput:
			entry.Inputs = append(entry.Inputs, key)
		default: // until it goes, the queue names it
			entry.Marks = append(entry.Marks, storage.InputMark(p.subjects, key))
		}
	}
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode index entry: %w", err)
	}
	// An earlier attempt's is put anew: its age tells that somebody works on it.
	if err := p.bucket.Put(ctx, p.subjectKey(j), data, storage.PutOptions{ContentType: "application/json"}); err != nil {
		return p.unavailable(ctx, err, "the index of subjects cannot be written")
	}
	return nil
}

func (p *Processor) subjectKey(j *job.Job) string {
	return storage.SubjectKey(storage.Pseudonym(p.subjects, *j.Subject), j.ID)
}

// held gives job.ErrHeld while the job's subject is on hold.
func (p *Processor) held(ctx context.Context, j *job.Job) error {
	if j.Subject == nil || len(p.subjects) == 0 {
		return nil
	}
	_, err := p.bucket.Stat(ctx, storage.HoldKey(storage.Pseudonym(p.subjects, *j.Subject)))
	switch {
	case err == nil:
		return job.ErrHeld
	case errors.Is(err, storage.ErrNotFound):
		return nil
	}
	return p.unavailable(ctx, err, "the holds cannot be looked up")
}

// erased removes what an attempt that began before the job's erasure may have
// put, and the job's entry in the index last. While a hold stands the erasure may
// be at work, and finds by the entry what it has to do: then it stays.
func (p *Processor) erased(ctx context.Context, j *job.Job) error {
	for object, err := range p.bucket.List(ctx, storage.ResultsOf(j.ID)) {
		if err == nil && object.Key != storage.RecordKey(j.ID) {
			err = p.bucket.Delete(ctx, object.Key)
		}
		if err != nil {
			return p.unavailable(ctx, err, "what is left of an erased job cannot be deleted")
		}
	}
	if j.Subject == nil || len(p.subjects) == 0 {
		return nil
	}
	if err := p.held(ctx, j); err != nil {
		if errors.Is(err, job.ErrHeld) {
			return nil
		}
		return err
	}
	if err := p.bucket.Delete(ctx, p.subjectKey(j)); err != nil {
		return p.unavailable(ctx, err, "the index of subjects cannot be written")
	}
	return nil
}
