package remote_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/remote"
	"github.com/imgus/worker/job"
)

func look(ctx context.Context, pool *remote.Pool, words string) (*inference.Classification, error) {
	return pool.Classify(ctx, inference.Picture{Data: []byte(words), Target: job.TargetOutput})
}

func TestClassify(t *testing.T) {
	pool := open(t, nil)
	for _, size := range []int{1, 100, 5 << 20} {
		c, err := look(t.Context(), pool, string(bytes.Repeat([]byte("x"), size)))
		if err != nil || c.Scores["output"] != float64(size) || c.Digest != "sha256:stub" {
			t.Errorf("got %+v, %v", c, err)
		}
	}
	if c, err := look(t.Context(), pool, "labels 1000"); err != nil || len(c.Scores) != 1000 {
		t.Errorf("got %v", err)
	}
	does(t, pool, "echo")
}

// Whatever goes wrong, there are no scores, the job is told, and the next picture
// is looked at.
func TestClassifierFails(t *testing.T) {
	pool := open(t, func(o *remote.Options) {
		o.Deadlines.Prepare = remote.Patience{Least: 100 * time.Millisecond, Most: 100 * time.Millisecond}
	})
	for words, want := range map[string]struct {
		code job.Code
		says string
	}{
		"exit":                {job.EngineFailed, "exit status 3"},
		"hang":                {job.EngineFailed, "no sign of progress in stage decode"},
		"error input_invalid": {job.InputInvalid, "public message: private cause"},
		"error engine_failed": {job.EngineFailed, "public message: private cause"},
		"nothing":             {job.EngineFailed, "no scores"},
		"labels 1001":         {job.EngineFailed, "no such classification"},
		"":                    {job.Internal, "no picture"},
	} {
		c, err := look(t.Context(), pool, words)
		if c != nil || err == nil || job.AsError(err).Code != want.code || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%q: got %v, %v", words, c, err)
		}
		if _, err := look(t.Context(), pool, "picture"); err != nil {
			t.Errorf("after %q: %v", words, err)
		}
	}
}

func TestCancelledClassification(t *testing.T) {
	pool := open(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(job.ErrCancelled) })
	if _, err := look(ctx, pool, "wait"); !errors.Is(err, job.ErrCancelled) {
		t.Errorf("got %v", err)
	}
	if d := pool.Health()[0]; d.Restarts != 0 {
		t.Errorf("the child was ended: %+v", d)
	}
}
