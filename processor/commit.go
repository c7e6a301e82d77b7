package processor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// commitTries bounds how often a commit whose answer was lost is tried anew.
const commitTries = 3

// publish puts the images under the attempt's own keys. They stay invisible
// until the record names them.
func (p *Processor) publish(ctx context.Context, id string, a job.Attempt, images []inference.Image) ([]job.Image, error) {
	out := make([]job.Image, len(images))
	for i, image := range images {
		key := storage.ImageKey(id, a.ID, i, image.Format)
		if err := p.bucket.Put(ctx, key, image.Data, storage.PutOptions{ContentType: image.Format.ContentType()}); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, unavailable(err, "the images cannot be stored")
		}
		sum := sha256.Sum256(image.Data)
		out[i] = job.Image{
			Key: key, SHA256: hex.EncodeToString(sum[:]), Format: image.Format, Width: image.Width, Height: image.Height,
			Bytes: int64(len(image.Data)), Seed: image.Seed,
		}
	}
	return out, nil
}

// commit puts the record if there is none, and returns the record that stands:
// r, or an earlier one. Whose it is, is decided by the attempt id alone: a put
// that was answered with "exists" or not at all may have been the first.
func (p *Processor) commit(ctx context.Context, r *job.Record) (*job.Record, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	key := storage.RecordKey(r.ID)
	for range commitTries {
		err = p.bucket.PutIfAbsent(ctx, key, data, storage.PutOptions{ContentType: "application/json"})
		if err == nil {
			return r, nil
		}
		stands, readErr := p.readRecord(ctx, r.ID)
		if readErr == nil {
			return stands, nil
		}
		if !errors.Is(readErr, storage.ErrNotFound) || ctx.Err() != nil {
			err = errors.Join(err, readErr)
			break
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, unavailable(err, "the record cannot be stored")
}

func (p *Processor) readRecord(ctx context.Context, id string) (*job.Record, error) {
	data, err := p.bucket.Get(ctx, storage.RecordKey(id), storage.MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return job.DecodeRecord(data)
}

// withdraw deletes the attempt's images, as far as the storage lets it; the
// janitor finds the rest. It works on after ctx has ended.
func (p *Processor) withdraw(ctx context.Context, id string, a job.Attempt) {
	settle, release := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer release()
	// A commit whose answer was lost may have landed: then the images are the
	// job's.
	if r, err := p.readRecord(settle, id); err == nil && r.Attempt != nil && r.Attempt.ID == a.ID || err != nil && !errors.Is(err, storage.ErrNotFound) {
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

// finish deletes what the job left behind and says so. It may be repeated. It
// goes on when ctx ends: the outcome is decided, and what is left is a photo.
func (p *Processor) finish(ctx context.Context, j *job.Job, r *job.Record) (job.Outcome, error) {
	ctx, release := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer release()
	deletions := job.Deletions{Version: job.Version, ID: j.ID, Deleted: []job.Deletion{}}
	for _, input := range []struct {
		what string
		key  *string
	}{{"input", j.Input}, {"mask", j.Mask}} {
		if input.key == nil || j.KeepInput || !storage.ValidInputKey(*input.key) {
			continue
		}
		if err := p.bucket.Delete(ctx, *input.key); err != nil {
			return job.Outcome{}, unavailable(err, "the "+input.what+" cannot be deleted")
		}
		deletions.Deleted = append(deletions.Deleted, job.Deletion{What: input.what, At: time.Now().UTC()})
	}
	deletions.Deleted = append(deletions.Deleted, job.Deletion{What: "buffers", At: time.Now().UTC()})
	data, err := json.Marshal(deletions)
	if err != nil {
		return job.Outcome{}, fmt.Errorf("encode deletions: %w", err)
	}
	err = p.bucket.PutIfAbsent(ctx, storage.DeletionsKey(j.ID), data, storage.PutOptions{ContentType: "application/json"})
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return job.Outcome{}, unavailable(err, "what was deleted cannot be recorded")
	}
	outcome := job.Outcome{State: r.State, RecordKey: storage.RecordKey(j.ID)}
	if r.Error != nil {
		outcome.Code = r.Error.Code
	}
	return outcome, nil
}
