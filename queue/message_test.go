package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// What a foreign producer asked of asynq does no harm: the job is not archived
// for want of retries, not given out twice for its time limit, not dropped for
// its deadline, not kept after its end. Without the repair each of these is.
func TestForeignOptions(t *testing.T) {
	tests := map[string][]asynq.Option{
		"no retries":     {asynq.MaxRetry(0)},
		"time limit":     {asynq.Timeout(time.Second), asynq.MaxRetry(0)},
		"deadline":       {asynq.Deadline(time.Now().Add(-time.Hour)), asynq.MaxRetry(0)},
		"retention":      {asynq.Retention(time.Hour)},
		"unique":         {asynq.Unique(time.Hour)},
		"later":          {asynq.ProcessIn(time.Second)},
		"group and more": {asynq.MaxRetry(0), asynq.Timeout(time.Second), asynq.Retention(time.Hour), asynq.Group("g")},
	}
	servers(t, func(t *testing.T, at queue.Connection) {
		for name, asked := range tests {
			t.Run(name, func(t *testing.T) {
				r, c, h := inspect(t, at), client(t, at), newHandler(nil)
				r.FlushAll(t.Context())
				h.process = oneOfEach(h)
				for _, id := range []string{"fails-once", "times-out"} {
					foreign(t, r, id, asked...)
				}
				opts := options(at, h)
				opts.Concurrency = 2
				reaping := (*queue.Consumer).DoNotReap // it would mend what is not repaired
				if strings.Contains(name, "group") {
					reaping = hastened
				}
				for range 2 {
					start(t, opts, reaping) // ends with this test
				}
				for id, attempts := range map[string]int{"fails-once": 2, "times-out": 1} {
					waitState(t, c, id, job.Done)
					if n, _ := h.seen(id); len(n) != attempts {
						t.Errorf("%s was tried %d times", id, len(n))
					}
				}
				checkResidue(t, r)
			})
		}
	})
}

// Whatever stands in Redis, only what asynq can work with is given to it, with
// its id and payload as they were.
func FuzzMessage(f *testing.F) {
	f.Add("\x0a\x0eimage:generate\x12\x02{}\x1a\x01a\x22\x05batch\x28\x19\x40\x88\x0e", "batch", "a")
	f.Add("\x0a\x05secret", "batch", "a")
	f.Add("\xff", "batch", "a")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, data, name, id string) {
		repaired, ok := queue.Repaired(data, name)
		readable := queue.Readable(data, name, id) == nil
		if readable && id != "" && !ok {
			t.Fatal("a task that can be read is not given out")
		}
		if ok && readable && queue.Readable(repaired, name, id) != nil {
			t.Fatal("the repair broke it")
		}
	})
}
