package queue_test

import (
	"slices"
	"testing"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/queue"
)

func TestRights(t *testing.T) {
	t.Parallel()
	rights := documentedRights(t)
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{
		"user default on nopass ~* &* +@all",
		"user enough on >" + secret + " " + rights,
		"user less on >" + secret + " " + rights + " -zadd -subscribe",
		"user elsewhere on >" + secret + " " + rights + " resetkeys ~imgus:*",
		"user single on >" + secret + " " + rights + " -psubscribe",
		"user deaf on >" + secret + " " + rights + " resetchannels &imgus:cancel",
	}})
	for user, want := range map[string][]string{
		"enough": nil, "less": {"+zadd", "+subscribe"}, "elsewhere": {"~asynq:*"}, "single": {"+psubscribe"},
		"deaf": {"&imgus:events:*"},
	} {
		c := client(t, queue.Connection{URL: server.Addr, Username: user, Password: secret})
		got, err := c.Rights(t.Context())
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s lacks %v, %v, want %v", user, got, err, want)
		}
	}
	if _, err := client(t, queue.Connection{URL: "127.0.0.1:1"}).Rights(t.Context()); err == nil {
		t.Error("rights on no server")
	}
}

// What a worker tells of itself can be listed while it lives.
func TestWorkers(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		opts := options(at, newHandler(nil))
		opts.About = func() queue.About {
			return queue.About{Devices: []queue.Device{{Name: "cpu", State: "ready", Slots: 1}}, Models: map[string]string{"demo": "sha256:00"}}
		}
		w := start(t, opts)
		c := client(t, at)
		var workers []queue.Worker
		eventually(t, "a sign of life", func() bool {
			var err error
			workers, err = c.Workers(t.Context())
			return err == nil && len(workers) == 1
		})
		if got := workers[0]; len(got.Devices) != 1 || got.Models["demo"] != "sha256:00" || got.InHand != 0 || got.Queues["interactive"] == 0 {
			t.Errorf("worker is %+v", got)
		}
		w.stop()
		if workers, err := c.Workers(t.Context()); err != nil || len(workers) > 0 {
			t.Errorf("workers are %v, %v", workers, err)
		}
	})
}
