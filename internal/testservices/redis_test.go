package testservices

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func want(t *testing.T, addr, answer string, args ...string) {
	t.Helper()
	if got, err := command(addr, args...); err != nil || got != answer {
		t.Fatalf("%q: got %q, %v, want %q", args, got, err, answer)
	}
}

func TestRedisIsEmptyAndNeverEvicts(t *testing.T) {
	t.Setenv("IMGUS_TEST_REDIS", "")
	addr := Redis(t)
	want(t, addr, "OK", "SET", "a", "1")
	want(t, Redis(t), "OK", "SET", "a", "1", "NX")
}

func TestRedisOfTheEnvironment(t *testing.T) {
	t.Setenv("IMGUS_TEST_REDIS", "192.0.2.1:6379")
	if got := Redis(t); got != "192.0.2.1:6379" {
		t.Errorf("got %s", got)
	}
}

func TestRedisComesBack(t *testing.T) {
	for _, persist := range []bool{false, true} {
		s := StartRedis(t, RedisOptions{Persist: persist})
		want(t, s.Addr, "OK", "SET", "a", "1")
		s.Kill()
		if err := ping(s.Addr); err == nil {
			t.Fatal("a killed server answers")
		}
		s.Start()
		got, err := command(s.Addr, "GET", "a")
		if kept := err == nil && got == "1"; kept != persist {
			t.Errorf("persist %v: kept %v (%v)", persist, kept, err)
		}
		s.Stop()
		s.Start()
		want(t, s.Addr, "PONG", "PING")
	}
}

func TestRedisHangs(t *testing.T) {
	s := StartRedis(t, RedisOptions{})
	s.Pause()
	answered := make(chan error, 1)
	go func() { answered <- ping(s.Addr) }()
	select {
	case <-answered:
		t.Error("a paused server answers")
	case <-time.After(50 * time.Millisecond):
	}
	s.Resume()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func TestRedisWithUsers(t *testing.T) {
	s := StartRedis(t, RedisOptions{Users: []string{"user default on nopass ~only:* +get +set +ping"}})
	want(t, s.Addr, "OK", "SET", "only:a", "1")
	if _, err := command(s.Addr, "SET", "other", "1"); err == nil {
		t.Error("the ACL has no effect")
	}
	s = StartRedis(t, RedisOptions{Password: "secret"})
	if _, err := command(s.Addr, "GET", "a"); err == nil {
		t.Error("the password has no effect")
	}
}

func TestSentinelPromotesTheReplica(t *testing.T) {
	group := RedisSentinel(t)
	want(t, group.Addr, "PONG", "PING")
	group.Master.Kill()
	waitFor(t, "the promotion", group.Replica.Addr, []string{"INFO", "replication"}, "role:master")
	waitFor(t, "the sentinel", group.Addr, []string{"INFO", "sentinel"}, "address="+group.Replica.Addr)
}

func TestClusterTakesEverySlot(t *testing.T) {
	nodes := RedisCluster(t)
	// "foo" has slot 12182, which is the third node's.
	want(t, nodes[2].Addr, "OK", "SET", "foo", "1")
	if _, err := command(nodes[0].Addr, "SET", "foo", "1"); err == nil {
		t.Error("a node takes a key that is not its own")
	}
}
