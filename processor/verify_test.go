package processor_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/storage"
)

// counting counts what is put without a condition, as pictures are.
type counting struct {
	storage.Bucket
	puts *int
}

func (c counting) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	*c.puts++
	return c.Bucket.Put(ctx, key, data, opts)
}

// One picture that is not as it must be, and none of the job's is ever put.
func TestUnverifiedPicturesAreNeverStored(t *testing.T) {
	var log strings.Builder
	f := newFixture(t, processor.Recorder{})
	var puts int
	var looked []string
	f.Processor = processor.New(processor.Options{
		Bucket: counting{f.memory, &puts}, Engine: f.engine, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Verify: func(j *job.Job, picture []byte) error {
			looked = append(looked, j.ID+" "+string(picture))
			if bytes.HasSuffix(picture, []byte("1")) {
				return errors.New("no mark on it")
			}
			return nil
		},
	})
	j := f.photo(t, "a")
	outcome, err := f.Process(t.Context(), j, first("t1"), ignore)
	if err != nil {
		t.Fatal(err)
	}
	if outcome.State != job.Failed || outcome.Code != job.BadOutput {
		t.Errorf("outcome is %+v", outcome)
	}
	if got := strings.Join(looked, ", "); got != "a image 0, a image 1" {
		t.Errorf("looked at %s", got)
	}
	if puts != 0 {
		t.Errorf("%d pictures were put", puts)
	}
	if r := f.record(t, "a"); r.Error.Code != job.BadOutput || len(r.Images) > 0 || strings.Contains(r.Error.Message, "no mark") {
		t.Errorf("record is %+v", r)
	}
	if !strings.Contains(log.String(), "no mark on it") {
		t.Errorf("log is %s", log.String())
	}
	f.keys(t, storage.DeletionsKey("a"), storage.RecordKey("a"))
}
