package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

func TestServerFacts(t *testing.T) {
	t.Parallel()
	fit := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	unfit := testservices.StartRedis(t, testservices.RedisOptions{Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	silent := testservices.StartRedis(t, testservices.RedisOptions{Users: []string{"user default on nopass ~* &* +@all -info -time"}})
	replica := testservices.StartRedis(t, testservices.RedisOptions{Persist: true, Args: strings.Fields("--replicaof 127.0.0.1 1")})
	for name, tt := range map[string]struct {
		addr     string
		known    bool
		problems []string
	}{
		"fit":       {fit.Addr, true, nil},
		"unfit":     {unfit.Addr, true, []string{"noeviction", "appendonly"}},
		"silent":    {silent.Addr, false, nil},
		"replica":   {replica.Addr, true, []string{"replica"}},
		"miniredis": {miniredis.RunT(t).Addr(), false, nil},
	} {
		facts, err := client(t, queue.Connection{URL: tt.addr}).Server(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if known := facts.Version != "" && facts.Role != ""; known != tt.known {
			t.Errorf("%s: %+v", name, facts)
		}
		problems := append(facts.Faults(), facts.Problems()...)
		if facts.ClockFault() != "" {
			t.Errorf("%s: %s", name, facts.ClockFault())
		}
		if len(problems) != len(tt.problems) {
			t.Fatalf("%s: %q", name, problems)
		}
		for i, want := range tt.problems {
			if !strings.Contains(problems[i], want) {
				t.Errorf("%s: %q lacks %s", name, problems[i], want)
			}
		}
	}
}

func TestServerProblems(t *testing.T) {
	for _, tt := range []struct {
		facts queue.ServerFacts
		want  string
	}{
		{queue.ServerFacts{}, ""},
		{queue.ServerFacts{Version: "6.2.0"}, ""},
		{queue.ServerFacts{Version: "6.0.16"}, "6.2"},
		{queue.ServerFacts{Version: "5.0"}, "6.2"},
		{queue.ServerFacts{Version: "10.1.1"}, ""},
		{queue.ServerFacts{Version: "unstable"}, ""},
		{queue.ServerFacts{ClockSkew: 4 * time.Second}, ""},
		{queue.ServerFacts{ClockSkew: -6 * time.Second}, "6s behind"},
		{queue.ServerFacts{ClockSkew: 6 * time.Second}, "6s ahead of"},
		{queue.ServerFacts{Role: "slave"}, "replica"},
	} {
		problems := strings.Join(tt.facts.Faults(), "; ") + tt.facts.ClockFault()
		if (problems == "") != (tt.want == "") || !strings.Contains(problems, tt.want) {
			t.Errorf("%+v: %q", tt.facts, problems)
		}
	}
}

// A worker tells once what is wrong with its Redis.
func TestServerWarnings(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Args: []string{"--maxmemory-policy", "volatile-ttl"}})
	at := queue.Connection{URL: server.Addr}
	log := &logged{}
	opts := options(at, newHandler(done))
	opts.Log = log.logger()
	w := start(t, opts)
	c := client(t, at)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
	w.stop()
	if n := strings.Count(log.String(), "noeviction"); n != 1 || strings.Contains(log.String(), "appendonly") {
		t.Errorf("said %d times in %s", n, log)
	}
}
