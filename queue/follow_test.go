package queue_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// Who follows all jobs learns of each one's end, however short it was; and the
// active ones can be listed.
func TestFollow(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		c := client(t, at)
		hold := make(chan struct{})
		start(t, options(at, newHandler(func(_ context.Context, j *job.Job, _ job.Attempt, _ func(job.Progress)) (job.Outcome, error) {
			if j.ID == "held" {
				<-hold
			}
			return job.Outcome{State: job.Done}, nil
		})))
		events := follow(t, c, inspect(t, at))
		enqueue(t, c, "held")
		eventually(t, "an active job", func() bool {
			ids, err := c.Active(t.Context())
			return err == nil && slices.Equal(ids, []string{"held"})
		})
		want := []string{"held"}
		for range 20 {
			want = append(want, enqueue(t, c, queue.NewID()).ID)
		}
		close(hold)
		for ended := []string{}; len(ended) < len(want); {
			select {
			case s := <-events:
				if s.State.Final() {
					ended = append(ended, s.ID)
					if !slices.Contains(want, s.ID) || s.State != job.Done || s.Queue != "interactive" {
						t.Errorf("got %+v", s)
					}
				}
			case <-time.After(time.Minute):
				t.Fatalf("only %d of %d ends were told", len(ended), len(want))
			}
		}
	})
}

// follow hands on what Follow yields, until the test's end, once it is subscribed.
// What is no status does not end it.
func follow(t *testing.T, c *queue.Client, r redis.UniversalClient) <-chan queue.Status {
	events := make(chan queue.Status, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		for s, err := range c.Follow(ctx) {
			if err != nil {
				t.Error(err)
			}
			events <- s
		}
	}()
	eventually(t, "the subscription", func() bool {
		for _, event := range []string{"no status", `{"id":"marker"}`} {
			if err := r.Publish(t.Context(), "imgus:events:marker", event).Err(); err != nil {
				t.Fatal(err)
			}
		}
		return len(events) > 0
	})
	return events
}

// A user who may not follow is told so; an outage is waited for.
func TestFollowDenied(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{
		"user default on nopass ~* &* +@all",
		"user single on >" + secret + " " + documentedRights(t) + " -psubscribe",
	}})
	var told []error
	for _, err := range client(t, queue.Connection{URL: server.Addr, Username: "single", Password: secret}).Follow(t.Context()) {
		told = append(told, err)
	}
	if len(told) != 1 || !errors.Is(told[0], queue.ErrUnavailable) {
		t.Errorf("told %v", told)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for s, err := range client(t, queue.Connection{URL: "127.0.0.1:1"}).Follow(ctx) {
		t.Errorf("got %+v, %v of no server", s, err)
	}
}
