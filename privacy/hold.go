package privacy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// HoldReport tells how a subject's jobs stand.
type HoldReport struct {
	Subject string `json:"subject"` // its pseudonym
	Held    bool   `json:"held"`
	// Waiting and Running are jobs in the queues. One that runs already ends by
	// itself, or by worker cancel.
	Waiting int `json:"waiting"`
	Running int `json:"running"`
	// Unreadable are jobs of which nobody can tell whose they are.
	Unreadable int `json:"unreadable,omitempty"`
}

// hold is what stands at a subject's hold. An erasure ends only its own.
type hold struct {
	Version int       `json:"version"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
}

const (
	byOperator = "hold"
	byErasure  = "erase"
)

var asJSON = storage.PutOptions{ContentType: "application/json"}

func encodeHold(by string) []byte {
	data, err := json.Marshal(hold{Version: job.Version, By: by, At: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		panic(err) // no such value
	}
	return data
}

// Hold lets the subject's jobs wait: none begins, and retention deletes nothing
// of the subject's, until Release.
func (r *Rights) Hold(ctx context.Context, subject string) (HoldReport, error) {
	if err := r.o.Bucket.Put(ctx, storage.HoldKey(r.pseudonym(subject)), encodeHold(byOperator), asJSON); err != nil {
		return HoldReport{}, fmt.Errorf("put hold: %w", err)
	}
	return r.report(ctx, subject, true)
}

// Release ends a hold, and lets what waits because of it go on. It is no error
// if there is none.
func (r *Rights) Release(ctx context.Context, subject string) (HoldReport, error) {
	if err := r.o.Bucket.Delete(ctx, storage.HoldKey(r.pseudonym(subject))); err != nil {
		return HoldReport{}, fmt.Errorf("release hold: %w", err)
	}
	return r.report(ctx, subject, false)
}

func (r *Rights) report(ctx context.Context, subject string, held bool) (HoldReport, error) {
	report := HoldReport{Subject: r.pseudonym(subject), Held: held}
	var waits []Queued
	for q, err := range r.o.Queue.Jobs(ctx) {
		switch {
		case err != nil:
			return report, fmt.Errorf("look through the queues: %w", err)
		case q.Unreadable:
			report.Unreadable++
		case q.Job.Subject == nil || *q.Job.Subject != subject:
		case q.Active:
			report.Running++
		default:
			report.Waiting++
			if q.Waits {
				waits = append(waits, q)
			}
		}
	}
	if !held {
		for _, q := range waits {
			r.o.Queue.GoOn(q)
		}
	}
	return report, nil
}

// holdForErasure puts a hold unless one stands, and reports whether an earlier
// erasure left it, which was cut short.
func (r *Rights) holdForErasure(ctx context.Context, who string) (resumed bool, err error) {
	err = r.o.Bucket.PutIfAbsent(ctx, storage.HoldKey(who), encodeHold(byErasure), asJSON)
	if err == nil {
		return false, nil
	}
	ours, readErr := r.heldByErasure(ctx, who)
	switch {
	case readErr == nil: // also when the answer to our own was lost
		return ours, nil
	case errors.Is(err, storage.ErrExists):
		err = readErr
	}
	return false, fmt.Errorf("put hold: %w", err)
}

// heldByErasure reports whether the hold that stands is an erasure's.
func (r *Rights) heldByErasure(ctx context.Context, who string) (bool, error) {
	data, err := r.o.Bucket.Get(ctx, storage.HoldKey(who), storage.MaxRecord)
	if err != nil {
		return false, fmt.Errorf("read hold: %w", err)
	}
	var h hold
	return json.Unmarshal(data, &h) == nil && h.By == byErasure, nil
}
