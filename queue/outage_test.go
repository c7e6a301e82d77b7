package queue_test

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
)

// A1: Redis goes away at the moment of success and comes back three seconds
// later. The job is done once, and its end is told.
func TestRedisAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	server, r, c, h := endInAnOutage(t)
	waitState(t, c, "a", job.Done)
	checkResidue(t, r)
	if n, _ := h.seen("a"); len(n) != 1 {
		t.Errorf("done %d times", len(n))
	}
	server.Stop()
}

// The same without the defence: asynq never gets rid of the task, and would
// give it out again when its lease has expired.
func TestRedisAwayAtTheEndUndefended(t *testing.T) {
	t.Parallel()
	_, r, c, _ := endInAnOutage(t, (*queue.Consumer).KeepCancelledContexts)
	waitState(t, c, "a", job.Done)
	time.Sleep(12 * time.Second) // asynq tries again every five
	if len(leftovers(t, r)) == 0 {
		t.Error("asynq has mended this: the hook for A1 can go")
	}
}

// A14: Redis is away for so long that asynq drops the success without a word,
// its lease being over. The task is delivered once more, and ends at the sight
// of the record.
func TestRedisAwayForLong(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	at := queue.Connection{URL: server.Addr}
	running, finish := make(chan struct{}, 2), make(chan struct{})
	h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
		running <- struct{}{}
		<-finish
		return job.Outcome{State: job.Done}, nil
	})
	w := start(t, options(at, h))
	c := client(t, at)
	enqueue(t, c, "a")
	<-running
	server.Kill()
	time.Sleep(36 * time.Second) // a lease lasts for thirty
	close(finish)
	time.Sleep(time.Second)
	server.Start()
	waitState(t, c, "a", job.Done)
	eventually(t, "the second delivery", func() bool { n, _ := h.seen("a"); return len(n) == 2 })
	r := inspect(t, at)
	checkResidue(t, r)
	w.stop()
	if s, err := c.Status(t.Context(), "a"); err != nil || s.State != job.Done {
		t.Errorf("the status became %+v, %v", s, err)
	}
}

func endInAnOutage(t *testing.T, adjust ...func(*queue.Consumer)) (*testservices.RedisServer, redis.UniversalClient, *queue.Client, *handler) {
	t.Helper()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	at := queue.Connection{URL: server.Addr}
	finishing, gone := make(chan struct{}), make(chan struct{})
	h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
		close(finishing)
		<-gone
		return job.Outcome{State: job.Done}, nil
	})
	start(t, options(at, h), adjust...)
	c := client(t, at)
	enqueue(t, c, "a")
	<-finishing
	server.Kill()
	close(gone)
	time.Sleep(3 * time.Second)
	server.Start()
	return server, inspect(t, at), c, h
}

// A3: asynq lets a task go when somebody cancels it in asynq's way, though the
// handler goes on; so does our own timeout. There is never more at once than
// there are slots.
func TestSlotsAreTheTruth(t *testing.T) {
	servers(t, func(t *testing.T, at queue.Connection) {
		deaf := func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
			time.Sleep(1500 * time.Millisecond) // hears nothing of the end of its context
			return job.Outcome{State: job.Done}, nil
		}
		r, h, c := inspect(t, at), newHandler(deaf), client(t, at)
		for _, id := range []string{"a", "b", "c"} {
			enqueueForeign(t, r, id, 1)
		}
		opts := options(at, h)
		opts.Timeout = time.Second
		start(t, opts)
		waitState(t, c, "a", job.Running)
		if err := asynq.NewInspectorFromRedisClient(r).CancelProcessing("a"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b", "c"} {
			waitState(t, c, id, job.Done)
		}
		if h.atOnce() != 1 {
			t.Errorf("%d at once in one slot", h.atOnce())
		}
	})
}

// A8: after Redis has begun to refuse the password it is asked a few times a
// second by all connections together.
func TestRefusedPassword(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Password: "right"})
	at := queue.Connection{URL: server.Addr, Password: "right"}
	h := newHandler(done)
	w := start(t, options(at, h))
	eventually(t, "the worker to be ready", w.Ready)
	r := inspect(t, at)
	ctx := t.Context()
	// Our own connection stays authenticated, all others end.
	own := r.(*redis.Client).Conn()
	defer own.Close()
	own.ConfigSet(ctx, "requirepass", "changed")
	own.ConfigResetStat(ctx)
	own.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes")
	own.ClientKillByFilter(ctx, "TYPE", "pubsub")
	const seconds = 5
	time.Sleep(seconds * time.Second)
	stats := own.Info(ctx, "commandstats").Val()
	// A refused connection tries HELLO and then AUTH.
	if n := failed(t, stats, "hello") + failed(t, stats, "auth"); n == 0 || n > 2*(2*seconds+4) {
		t.Errorf("%d refusals in %d seconds", n, seconds)
	}
	if w.Ready() {
		t.Error("ready without Redis")
	}
	own.ConfigSet(ctx, "requirepass", "right")
	eventually(t, "the worker to be ready again", w.Ready)
	c := client(t, at)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
}

func failed(t *testing.T, stats, command string) int {
	t.Helper()
	match := regexp.MustCompile(`cmdstat_` + command + `:.*failed_calls=(\d+)`).FindStringSubmatch(stats)
	if match == nil {
		return 0
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A8 again: a server that answers every script with an error is not asked in a
// hot loop either.
func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	w := start(t, options(at, newHandler(done)))
	eventually(t, "the worker to be ready", w.Ready)
	r := inspect(t, at)
	ctx := t.Context()
	// From here on the default user may not run scripts.
	r.Do(ctx, "ACL", "SETUSER", "default", "-evalsha", "-eval")
	r.ConfigResetStat(ctx)
	time.Sleep(5 * time.Second)
	match := regexp.MustCompile(`cmdstat_evalsha:.*rejected_calls=(\d+)`).FindStringSubmatch(r.Info(ctx, "commandstats").Val())
	if match == nil {
		t.Fatal("no script was refused")
	}
	// The forwarder asks every second for each queue, the others rarely.
	if n, _ := strconv.Atoi(match[1]); n > 60 {
		t.Errorf("%d refusals in 5 seconds", n)
	}
	r.Do(ctx, "ACL", "SETUSER", "default", "+evalsha", "+eval")
	c := client(t, at)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
}

func TestRedisAwayAtStart(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	server.Stop()
	w := start(t, options(at, newHandler(done)))
	time.Sleep(time.Second)
	if w.Ready() {
		t.Error("ready without Redis")
	}
	server.Start()
	eventually(t, "the worker to be ready", w.Ready)
	c := client(t, at)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
	w.stop()
	if w.Ready() {
		t.Error("ready after the end")
	}
}

type outages struct {
	dropped
	told chan bool
}

func (o outages) Outage(away bool) { o.told <- away }

// An outage is told once, and so is its end: in the log, to the observer, and by
// the checks while it lasts.
func TestOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	log, told := &logged{}, outages{told: make(chan bool, 10)}
	opts := options(queue.Connection{URL: server.Addr}, newHandler(done))
	opts.Log, opts.Observer = log.logger(), told
	w := start(t, opts)
	eventually(t, "the worker to be ready", w.Ready)
	server.Kill()
	if !<-told.told {
		t.Error("the beginning is told as the end")
	}
	if err := w.Checks()["redis"]; err == nil || w.Ready() {
		t.Errorf("the check says %v", err)
	}
	time.Sleep(3 * time.Second)
	server.Start()
	if <-told.told {
		t.Error("the end is told as a beginning")
	}
	eventually(t, "the worker to be ready again", w.Ready)
	w.stop()
	if len(told.told) > 0 || strings.Count(log.String(), "redis is away") != 1 || strings.Count(log.String(), "redis is back") != 1 {
		t.Errorf("told %d times more; the log says %s", len(told.told), log)
	}
	if err := w.Checks()["queue"]; err == nil {
		t.Error("the check says that jobs are taken after the end")
	}
}

// It also ends while it waits.
func TestStopWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	start(t, options(queue.Connection{URL: "127.0.0.1:1"}, newHandler(done))).stop()
}

// A watcher goes on through an outage.
func TestWatchThroughAnOutage(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	at := queue.Connection{URL: server.Addr}
	c := client(t, at)
	enqueue(t, c, "a")
	var last queue.Status
	for s, err := range c.Watch(t.Context(), "a") {
		if err != nil {
			t.Fatal(err)
		}
		if last.State == "" {
			server.Kill()
			time.Sleep(time.Second)
			server.Start()
			start(t, options(at, newHandler(done)))
		}
		last = s
	}
	if last.State != job.Done {
		t.Errorf("ended with %+v", last)
	}
}

// A8, and the figure for it: while Redis is away an idle worker tries to
// connect at most twice a second, whether its attempts are refused or accepted
// and cut, and it is there again soon after.
func TestPaceOfConnecting(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	at := queue.Connection{URL: server.Addr}
	w := start(t, options(at, newHandler(done)))
	eventually(t, "the worker to be ready", w.Ready)
	server.Kill()
	knocks := testservices.CountKnocks(t, server.Addr)
	const seconds = 10
	time.Sleep(seconds * time.Second)
	if n := knocks.Count(); n == 0 || n > 2*seconds {
		t.Errorf("%d attempts in %d seconds", n, seconds)
	}
	if w.Ready() {
		t.Error("ready without Redis")
	}
	knocks.Close()
	server.Start()
	back := time.Now()
	c := client(t, at)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
	t.Logf("%d attempts in %d seconds; a job was done %.1f s after the return", knocks.Count(), seconds, time.Since(back).Seconds())
}

// A Redis that answers and takes nothing makes the worker not ready, and that is
// said once.
func TestRedisRefusesWrites(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	opts, log := options(at, newHandler(done)), &logged{}
	opts.Log = log.logger()
	w := start(t, opts)
	c, r := client(t, at), inspect(t, at)
	eventually(t, "the worker to be ready", w.Ready)
	if err := r.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker to be not ready", func() bool { return !w.Ready() })
	if err := w.Checks()["redis"]; err == nil || !strings.Contains(err.Error(), "refuses to write: OOM") {
		t.Errorf("it says %v", err)
	}
	if _, err := c.Rights(t.Context()); err == nil {
		t.Error("doctor would find nothing wrong")
	}
	if err := r.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the worker to be ready again", w.Ready)
	enqueue(t, c, "a")
	waitState(t, c, "a", job.Done)
	for _, line := range []string{"redis refuses to write", "redis takes writes again"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%q is said %d times", line, n)
		}
	}
}

// While Redis takes no writes no worker can give a sign of life, and afterwards
// none is taken for dead for that.
func TestRefusedWritesKillNobody(t *testing.T) {
	t.Parallel()
	server := testservices.StartRedis(t, testservices.RedisOptions{})
	at := queue.Connection{URL: server.Addr}
	finish := make(chan struct{})
	h := newHandler(func(context.Context, *job.Job, job.Attempt, func(job.Progress)) (job.Outcome, error) {
		<-finish
		return job.Outcome{State: job.Done}, nil
	})
	var logs [2]logged
	for i := range logs {
		opts := options(at, h)
		opts.Log = logs[i].logger()
		start(t, opts)
	}
	c, r := client(t, at), inspect(t, at)
	enqueue(t, c, "long")
	waitState(t, c, "long", job.Running)
	time.Sleep(16 * time.Second) // both have settled
	for _, limit := range []string{"1", "0"} {
		if err := r.ConfigSet(t.Context(), "maxmemory", limit).Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second) // longer than a mark lasts
	}
	close(finish)
	waitState(t, c, "long", job.Done)
	if n, _ := h.seen("long"); len(n) != 1 {
		t.Errorf("done %d times: %s %s", len(n), logs[0].String(), logs[1].String())
	}
}
