// Package processor conducts one attempt of one job, stage after stage: fetch,
// inference, publication, deletion. Its one promise is that of the record: the
// first record to land is the outcome for ever, and nothing is visible before.
package processor

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// settling bounds the storage work that goes on after a job's context ended:
// recording a cancellation, deleting an attempt's images.
const settling = 30 * time.Second

// landing bounds the end of a single write that was under way.
const landing = 5 * time.Second

// Options configure a Processor.
type Options struct {
	Bucket storage.Bucket
	Engine inference.Engine
	// Guard, if not nil, checks what jobs ask for and what they give.
	Guard Guard
	// Limits narrow what jobs may ask for.
	Limits job.Limits
	// SubjectKey makes subjects' pseudonyms. Without it a job that has a subject
	// is refused, since nobody could find it again to erase it.
	SubjectKey []byte
	// Record writes the records.
	Record Recorder
	// Verify, if not nil, looks at each picture of a job before it is stored. Its
	// error fails the job.
	Verify func(j *job.Job, picture []byte) error
	// Patience is how long a finished picture waits for a storage that is away,
	// rather than be made again; 0 is two minutes.
	Patience time.Duration
	Log      *slog.Logger
}

// Processor does the work of jobs. It is safe for concurrent use.
type Processor struct {
	bucket   storage.Bucket
	engine   inference.Engine
	limits   job.Limits
	subjects []byte
	guard    atomic.Pointer[Guard]
	record   atomic.Pointer[Recorder]
	verify   func(*job.Job, []byte) error
	patience time.Duration
	log      *slog.Logger
}

// New makes a Processor.
func New(o Options) *Processor {
	if o.Patience == 0 {
		o.Patience = 2 * time.Minute
	}
	p := &Processor{bucket: o.Bucket, engine: o.Engine, limits: o.Limits, subjects: o.SubjectKey, verify: o.Verify, patience: o.Patience, log: o.Log}
	p.Adjust(Settings{Guard: o.Guard, Record: o.Record})
	return p
}

// Settings are the options that can change while jobs are worked on.
type Settings struct {
	Guard  Guard
	Record Recorder
}

// Adjust changes what is checked, from the next attempt on, and what records
// keep, from the next one on.
func (p *Processor) Adjust(s Settings) {
	p.guard.Store(&s.Guard)
	p.record.Store(&s.Record)
}

// Process runs one attempt of a valid job and gives the job's outcome, which
// may be another attempt's. An error means that the job has no outcome yet: a
// *job.Error, job.ErrHeld, or the cause of ctx.
func (p *Processor) Process(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
	lookup, release := p.lookupContext(ctx)
	defer release()
	record, err := p.readRecord(lookup, j.ID)
	switch {
	case err == nil:
		return p.replay(lookup, j, record)
	case !errors.Is(err, storage.ErrNotFound):
		return job.Outcome{}, p.unavailable(lookup, err, "the record of the job cannot be looked up")
	case cancelled(ctx):
		return p.Cancel(ctx, j, a)
	}
	failpoint.Hit(failpoint.RecordLookedUp)

	if err = p.admit(ctx, j); errors.Is(err, job.ErrHeld) {
		return job.Outcome{}, err
	}
	if err == nil {
		record, err = p.attempt(ctx, j, a, p.telling(ctx, j, a, report))
	}
	if err == nil {
		return p.finish(ctx, j, record, []string{"buffers"})
	}
	undecided := errors.Is(err, errUndecided)
	if !undecided {
		p.withdraw(ctx, j.ID, a)
	}
	if cancelled(ctx) {
		outcome, err := p.Cancel(ctx, j, a)
		if err == nil && undecided {
			p.withdraw(ctx, j.ID, a) // now it is known whose the record is
		}
		return outcome, err
	}
	if ctx.Err() != nil {
		return job.Outcome{}, context.Cause(ctx)
	}
	if e := job.AsError(err); e.Code.Final() {
		return p.Refuse(ctx, j, a, e)
	}
	return job.Outcome{}, err
}

// replay is for a job that was decided before: at most the deletion is left. It
// takes no more than three requests, the record's included, if that is done too.
func (p *Processor) replay(ctx context.Context, j *job.Job, r *job.Record) (job.Outcome, error) {
	if j.Input != nil && j.Mask != nil {
		// Deleting both once more would be one too many.
		if _, err := p.bucket.Stat(ctx, storage.DeletionsKey(j.ID)); err == nil {
			return outcome(r), nil
		}
	}
	return p.finish(ctx, j, r, nil)
}

// Refuse ends the job with a failed record, unless its subject is on hold. j may
// be only partly read, but has a valid id.
func (p *Processor) Refuse(ctx context.Context, j *job.Job, a job.Attempt, reason *job.Error) (job.Outcome, error) {
	if err := p.held(ctx, j); err != nil {
		return job.Outcome{}, err
	}
	if reason.Err != nil {
		// The record has only what is public.
		p.log.WarnContext(ctx, "a job is refused", "job_id", j.ID, "code", reason.Code, "error", reason.Err)
	}
	return p.settle(ctx, j, p.record.Load().Failed(j, a, reason))
}

// Cancel records that the job was cancelled, unless it has an outcome already.
func (p *Processor) Cancel(ctx context.Context, j *job.Job, a job.Attempt) (job.Outcome, error) {
	settle, release := context.WithTimeout(context.WithoutCancel(ctx), settling)
	defer release()
	return p.settle(settle, j, p.record.Load().cancelled(j, a))
}

// settle commits a record that has no images, and deletes what the job left. The
// job may never have begun, and is found again all the same.
func (p *Processor) settle(ctx context.Context, j *job.Job, r *job.Record) (job.Outcome, error) {
	if err := p.index(ctx, j); err != nil {
		return job.Outcome{}, err
	}
	winner, err := p.commit(ctx, r)
	if err != nil {
		return job.Outcome{}, err
	}
	return p.finish(ctx, j, winner, nil)
}

// attempt does the work and commits it. The record is the winner's.
func (p *Processor) attempt(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (*job.Record, error) {
	start := time.Now()
	checks := Checks{Guard: *p.guard.Load()}
	if err := checks.Prompt(j); err != nil {
		return nil, err
	}
	report(job.Progress{Stage: job.StageFetch})
	input, mask, err := p.fetch(ctx, j)
	defer wipe(input, mask) // one may have been fetched and the other not
	if err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.InputFetched)
	fetched := time.Now()
	if err := checks.Input(ctx, input); err != nil {
		return nil, err
	}

	result, err := p.engine.Generate(ctx, inference.Request{Job: j, Input: input, Mask: mask, Progress: passing(report)})
	if err != nil {
		return nil, err
	}
	defer wipeImages(result.Images)
	if err := checks.Output(ctx, result.Images); err != nil {
		return nil, err
	}
	if err := Verify(p.verify, j, result.Images); err != nil {
		return nil, err
	}
	failpoint.Hit(failpoint.Encoded)

	report(job.Progress{Stage: job.StageStore})
	storing := time.Now()
	images, err := p.publish(ctx, j.ID, a, result.Images)
	if err != nil {
		return nil, err
	}
	r := p.record.Load().Done(j, a, result, images)
	r.Safety = checks.Verdicts
	r.Timings[job.StageFetch] = fetched.Sub(start).Milliseconds()
	r.Timings[job.StageStore] = time.Since(storing).Milliseconds()
	r.Timings[job.StageTotal] = time.Since(start).Milliseconds()
	if j.CreatedAt != nil {
		r.Timings[job.StageQueued] = max(start.Sub(*j.CreatedAt).Milliseconds(), 0)
	}
	if ctx.Err() != nil {
		// The last moment at which a cancelled job can be kept invisible.
		return nil, context.Cause(ctx)
	}
	winner, err := p.commit(ctx, r)
	if err != nil {
		return nil, err
	}
	if winner.Attempt == nil || winner.Attempt.ID != a.ID {
		p.withdraw(ctx, j.ID, a)
	}
	return winner, nil
}

// telling logs, at level debug, that the job begins and each stage that it comes
// to.
func (p *Processor) telling(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) func(job.Progress) {
	log := p.log.With("job_id", j.ID, "attempt", a.Number)
	log.DebugContext(ctx, "job begins", "kind", j.Kind, "model", j.Model)
	var last atomic.Value
	return func(now job.Progress) {
		if last.Swap(now.Stage) != now.Stage {
			log.DebugContext(ctx, "job comes to a stage", "stage", now.Stage)
		}
		report(now)
	}
}

// Verify looks at each of a job's images. The error is a *job.Error.
func Verify(look func(*job.Job, []byte) error, j *job.Job, images []inference.Image) error {
	for _, image := range images {
		if look == nil {
			break
		}
		if err := look(j, image.Data); err != nil {
			return job.Wrap(job.BadOutput, err, "a picture did not come out as it must be stored; the worker's log has the reason")
		}
	}
	return nil
}

// passing marks what the engine has come to. It may tell of the newest only.
func passing(report func(job.Progress)) func(job.Progress) {
	return func(now job.Progress) {
		if now.Stage == job.StageText || now.Stage == job.StageDenoise {
			failpoint.Hit(failpoint.ModelLoaded)
		}
		if now.Stage == job.StageDenoise && now.Step > 0 {
			failpoint.Hit(failpoint.MidDenoise)
		}
		report(now)
	}
}

// lookupContext is ctx, or for a job that was cancelled before it began one
// that still lets its outcome be looked up.
func (p *Processor) lookupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if cancelled(ctx) {
		return context.WithTimeout(context.WithoutCancel(ctx), settling)
	}
	return context.WithCancel(ctx)
}

func cancelled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), job.ErrCancelled)
}

// unavailable is the error for storage that is away or refuses; where ctx has
// ended by the job's own doing, that.
func (p *Processor) unavailable(ctx context.Context, err error, message string) error {
	for _, cause := range []error{job.ErrCancelled, job.ErrShutdown, job.ErrTimeout} {
		if errors.Is(context.Cause(ctx), cause) {
			return cause
		}
	}
	return job.Wrap(job.StorageUnavailable, err, message)
}

// wipe overwrites a user's bytes as soon as they are not needed, rather than
// when the memory happens to be used again.
func wipe(buffers ...[]byte) {
	for _, b := range buffers {
		clear(b)
	}
}

func wipeImages(images []inference.Image) {
	for _, image := range images {
		clear(image.Data)
	}
}
