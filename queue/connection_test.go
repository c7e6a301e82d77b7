package queue_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func TestConnectionCheck(t *testing.T) {
	noCA := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noCA, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		queue.Connection
		want string // part of the error, "" for none
	}{
		"address":               {queue.Connection{URL: "127.0.0.1:6379"}, ""},
		"url":                   {queue.Connection{URL: "redis://user:" + secret + "@host:6379/3"}, ""},
		"tls url":               {queue.Connection{URL: "rediss://host"}, ""},
		"unix socket":           {queue.Connection{URL: "unix:///run/redis.sock?db=1"}, ""},
		"sentinel":              {queue.Connection{URL: "ignored", Sentinel: queue.Sentinel{Master: "m", Addresses: []string{"a:1"}}}, ""},
		"cluster":               {queue.Connection{URL: "ignored", Cluster: queue.Cluster{Addresses: []string{"a:1"}}}, ""},
		"nothing":               {queue.Connection{}, "redis url"},
		"scheme":                {queue.Connection{URL: "http://u:" + secret + "@host"}, "redis url"},
		"broken url":            {queue.Connection{URL: "redis://u:" + secret + "@host:port%zz"}, "redis url"},
		"password, no scheme":   {queue.Connection{URL: "u:" + secret + "@host:1"}, "redis url"},
		"options":               {queue.Connection{URL: "redis://u:" + secret + "@host?pool_size=3"}, "no options"},
		"both":                  {queue.Connection{Sentinel: queue.Sentinel{Master: "m"}, Cluster: queue.Cluster{Addresses: []string{"a:1"}}}, "not both"},
		"sentinel, no address":  {queue.Connection{Sentinel: queue.Sentinel{Master: "m"}}, "sentinel"},
		"sentinel, no master":   {queue.Connection{Sentinel: queue.Sentinel{Addresses: []string{"a:1"}}}, "sentinel"},
		"no authority":          {queue.Connection{URL: "rediss://host", TLS: queue.TLS{CAFile: "/nowhere"}}, "authority"},
		"no certificate inside": {queue.Connection{URL: "a:1", TLS: queue.TLS{Enabled: true, CAFile: noCA}}, "no certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestOptionsCheck(t *testing.T) {
	_, err := queue.NewConsumer(queue.Options{Queues: map[string]int{"ok": 1, "a}": 1, "zero": 0}, ShutdownGrace: -1, StatusTTL: 1})
	for _, want := range []string{`"a}"`, `"zero"`, "concurrency", "attempts", "timeout", "grace", "ttl", "handler"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

// The worker's Redis user needs no more than the package's documentation says,
// and TLS with an authority of one's own works.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{
		"user default on nopass ~* &* +@all",
		"user worker on >" + secret + " " + documentedRights(t),
	}})
	addr, caFile := testservices.TLS(t, server.Addr)
	at := queue.Connection{URL: addr, Username: "worker", Password: secret, TLS: queue.TLS{Enabled: true, CAFile: caFile}}
	all := inspect(t, queue.Connection{URL: server.Addr})

	h := newHandler(nil)
	h.process = oneOfEach(h)
	opts := options(at, h)
	opts.Concurrency = 4
	strand(t, all, "stranded")
	foreign(t, all, "grouped", asynq.Group("g"))
	all.ZAdd(t.Context(), "asynq:{batch}:archived", redis.Z{Score: 1, Member: "unreadable"})
	w := start(t, opts, hastened)
	c := client(t, at)
	if facts, err := c.Server(t.Context()); err != nil || facts.Version == "" {
		t.Errorf("server: %+v, %v", facts, err)
	}
	enqueue(t, c, "done")
	enqueue(t, c, "done")
	enqueue(t, c, "fails-once")
	enqueue(t, c, "cancelled")
	enqueueForeign(t, all, "times-out", 1)
	for s, err := range c.Watch(t.Context(), "done") {
		if err != nil {
			t.Fatalf("watch after %+v: %v", s, err)
		}
	}
	waitState(t, c, "fails-once", job.Done)
	waitState(t, c, "times-out", job.Done)
	waitState(t, c, "stranded", job.Done)
	waitState(t, c, "grouped", job.Done)
	waitState(t, c, "cancelled", job.Running)
	time.Sleep(9 * time.Second) // asynq's janitor comes every eight seconds, its heartbeat every five
	if _, err := c.Cancel(t.Context(), "cancelled"); err != nil {
		t.Error(err)
	}
	waitState(t, c, "cancelled", job.Cancelled)
	w.stop()
	for _, denial := range all.Do(t.Context(), "ACL", "LOG").Val().([]any) {
		t.Errorf("denied: %v", denial)
	}
	// Nor may the connection be had without the authority, or the password.
	for name, at := range map[string]queue.Connection{
		"authority": {URL: addr, Username: "worker", Password: secret, TLS: queue.TLS{Enabled: true}},
		"password":  {URL: addr, Username: "worker", Password: "wrong", TLS: queue.TLS{Enabled: true, CAFile: caFile}},
	} {
		if err := client(t, at).Ping(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}

// documentedRights takes the ACL rules out of the package's documentation.
func documentedRights(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("queue.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(source), "//\tresetkeys")
	rules, _, found := strings.Cut("//\tresetkeys"+rest, "\npackage")
	if !found {
		t.Fatal("queue.go has no rules")
	}
	return strings.Join(strings.Fields(regexp.MustCompile(`//\t`).ReplaceAllString(rules, " ")), " ")
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	group := testservices.RedisSentinel(t)
	at := queue.Connection{Sentinel: queue.Sentinel{Master: testservices.SentinelMaster, Addresses: []string{group.Addr}}}
	c := client(t, at)
	start(t, options(at, newHandler(done)))
	enqueue(t, c, "before")
	waitState(t, c, "before", job.Done)
	group.Master.Kill()
	eventually(t, "the replica to take over", func() bool {
		_, err := c.Enqueue(t.Context(), newJob("after"), "batch")
		return err == nil
	})
	waitState(t, c, "after", job.Done)
	checkResidue(t, inspect(t, at))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	nodes := testservices.RedisCluster(t)
	rights := strings.Fields("ACL SETUSER worker on >" + secret + " " + documentedRights(t) + " +cluster|slots +command")
	for _, node := range nodes {
		if err := inspect(t, queue.Connection{URL: node.Addr}).Do(t.Context(), anys(rights)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	every := queue.Connection{Cluster: queue.Cluster{Addresses: []string{nodes[0].Addr, nodes[1].Addr}}}
	at := every
	at.Username, at.Password = "worker", secret
	c, h := client(t, at), newHandler(nil)
	h.process = oneOfEach(h)
	strand(t, inspect(t, every), "stranded")
	inspect(t, every).ZAdd(t.Context(), "asynq:{batch}:archived", redis.Z{Score: 1, Member: "unreadable"})
	w := start(t, options(at, h), hastened)
	ids := []string{"fails-once", "stranded"}
	for i := range 12 {
		ids = append(ids, fmt.Sprint("job-", i))
	}
	for i, id := range ids {
		if id == "stranded" {
			continue // it is there
		}
		if _, err := c.Enqueue(t.Context(), newJob(id), []string{"interactive", "batch"}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	for s, err := range c.Watch(t.Context(), ids[5]) {
		if err != nil {
			t.Fatalf("watch after %+v: %v", s, err)
		}
	}
	for _, id := range ids {
		waitState(t, c, id, job.Done)
	}
	events := follow(t, c, inspect(t, every))
	enqueue(t, c, "cancelled")
	waitState(t, c, "cancelled", job.Running)
	if active, err := c.Active(t.Context()); err != nil || !slices.Contains(active, "cancelled") {
		t.Errorf("active are %v, %v", active, err)
	}
	if _, err := c.Cancel(t.Context(), "cancelled"); err != nil {
		t.Error(err)
	}
	waitState(t, c, "cancelled", job.Cancelled)
	eventually(t, "the event of the end", func() bool { return len(events) > 0 && (<-events).State == job.Cancelled })
	w.stop()
	checkResidue(t, inspect(t, every))
	for _, node := range nodes {
		for _, denial := range inspect(t, queue.Connection{URL: node.Addr}).Do(t.Context(), "ACL", "LOG").Val().([]any) {
			t.Errorf("denied: %v", denial)
		}
	}
}

func anys(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}
