package processor

import (
	"context"
	"errors"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// fetch brings the job's photo and mask.
func (p *Processor) fetch(ctx context.Context, j *job.Job) (input, mask []byte, err error) {
	if input, err = p.fetchOne(ctx, "input", j.Input); err != nil {
		return nil, nil, err
	}
	mask, err = p.fetchOne(ctx, "mask", j.Mask)
	return input, mask, err
}

func (p *Processor) fetchOne(ctx context.Context, field string, key *string) ([]byte, error) {
	if key == nil {
		return nil, nil
	}
	if !storage.ValidInputKey(*key) {
		return nil, job.Errorf(job.InvalidJob, "%s: must be an object key under %s", field, storage.InputPrefix)
	}
	limit := job.HardLimits().Narrow(p.limits).InputBytes
	data, err := p.bucket.Get(ctx, *key, limit)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, storage.ErrNotFound):
		return nil, job.Errorf(job.InputMissing, "%s: there is no such object; put it into the bucket before the job into the queue", field)
	case errors.Is(err, storage.ErrTooLarge):
		return nil, job.Errorf(job.InputTooLarge, "%s: larger than %d bytes", field, limit)
	case errors.Is(err, storage.ErrCorrupt):
		return nil, job.Wrap(job.InputInvalid, err, field+": its bytes do not have the checksum they were stored with")
	case errors.Is(err, storage.ErrUnreadable):
		return nil, job.Wrap(job.InputInvalid, err, field+": the storage does not let this object be read")
	default:
		return nil, p.unavailable(ctx, err, field+": cannot be fetched")
	}
}
