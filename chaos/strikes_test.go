package chaos

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/imgus/worker/internal/failpoint"
	"github.com/imgus/worker/queue"
)

// fault is a way in which things go wrong. It begins with a worker that waits
// at the point and is over when nothing more will happen from outside.
type fault struct {
	name   string
	strike func(s *scenario)
	// leaves: the sweep may find something in the end.
	leaves bool
	// refused: the job's photo is none, so that it ends as failed.
	refused bool
	// cancels: the job is cancelled, so that it ends as that if it has not ended.
	cancels bool
}

var allFaults = []fault{
	{name: "worker killed", leaves: true, strike: replace},
	{name: "refused, worker killed", leaves: true, strike: replace, refused: true},
	{name: "cancelled, worker killed", leaves: true, cancels: true, strike: func(s *scenario) {
		if _, err := s.client.Cancel(s.t.Context(), s.job.ID); err != nil && !errors.Is(err, queue.ErrFinished) {
			s.t.Error(err)
		}
		replace(s)
	}},
	// The engine's process alone. Before the images are there this is a failed
	// attempt, afterwards nothing.
	{name: "engine killed", strike: func(s *scenario) {
		engines := s.first.children()
		if len(engines) == 0 {
			s.t.Error("the worker has no engine process")
		}
		for _, pid := range engines {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it is there
		}
		s.release()
	}},
	{name: "redis away 3s", strike: func(s *scenario) { s.redisAway(3 * time.Second) }},
	{name: "redis away 40s", strike: func(s *scenario) { s.redisAway(40 * time.Second) }},
	{name: "redis hangs", strike: func(s *scenario) {
		s.link.Stall()
		s.release()
		time.Sleep(6 * time.Second)
		must(s.t, s.link.Restore())
	}},
	{name: "storage refuses", strike: func(s *scenario) {
		s.store.Refuse(true)
		s.release()
		time.Sleep(3 * time.Second)
		s.store.Refuse(false)
	}},
	{name: "reply lost", strike: func(s *scenario) {
		s.store.LoseReplies(1)
		s.release()
	}},
	{name: "lease lost", strike: func(s *scenario) {
		s.loseLease()
		s.release()
	}},
	{name: "lease lost, worker killed", leaves: true, strike: func(s *scenario) {
		s.loseLease()
		replace(s)
	}},
	// The worker stands still until another has done its job, and then goes on
	// as if nothing had happened.
	{name: "worker frozen", strike: func(s *scenario) {
		s.first.signal(syscall.SIGSTOP)
		s.start()
		s.awaitEnd()
		s.release()
		s.first.signal(syscall.SIGCONT)
	}},
	// Another worker takes the job, the first wakes up and goes on, and the other
	// dies without a word.
	{name: "worker frozen, other killed", leaves: true, strike: func(s *scenario) {
		s.first.signal(syscall.SIGSTOP)
		reached := filepath.Join(s.dir, "other")
		other := s.start(failpoint.Variable + "=" + failpoint.Order(failpoint.InputFetched, reached))
		must(s.t, await(time.Minute, func() (bool, error) {
			_, err := os.Stat(reached)
			left, tasksErr := s.tasks(s.t.Context())
			return err == nil || left == 0, tasksErr // it may have found the record
		}))
		s.release()
		s.first.signal(syscall.SIGCONT)
		_ = await(5*time.Second, func() (bool, error) { // it may have found another owner
			left, err := s.tasks(s.t.Context())
			return left == 0, err
		})
		other.kill()
	}},
	// The worker is cut off from Redis, not from the storage.
	{name: "worker cut off", strike: func(s *scenario) {
		s.link.Cut()
		s.startAt(s.servers.redis.Addr)
		s.release()
		s.awaitEnd()
		must(s.t, s.link.Restore())
	}},
}

// replace kills the worker and starts another.
func replace(s *scenario) {
	s.first.kill()
	s.start()
}

func (s *scenario) redisAway(d time.Duration) {
	s.link.Cut()
	s.release()
	time.Sleep(d)
	must(s.t, s.link.Restore())
}

func (s *scenario) loseLease() {
	must(s.t, s.redis.Del(s.t.Context(), "asynq:{interactive}:lease").Err())
}

// brief are the scenarios of every test run.
var brief = map[string][]failpoint.Point{
	"worker killed":               {failpoint.AttemptBegun, failpoint.MidDenoise, failpoint.AfterImagePut, failpoint.BeforeCommit, failpoint.AfterCommit, failpoint.AfterInputDelete, failpoint.BeforeAck},
	"engine killed":               {failpoint.RecordLookedUp, failpoint.MidDenoise},
	"redis away 3s":               {failpoint.Dequeued, failpoint.BeforeCommit, failpoint.BeforeStatus, failpoint.BeforeAck},
	"storage refuses":             {failpoint.RecordLookedUp, failpoint.Encoded, failpoint.BeforeCommit, failpoint.BeforeInputDelete},
	"reply lost":                  {failpoint.BeforeImagePut, failpoint.BeforeCommit, failpoint.BeforeInputDelete},
	"lease lost":                  {failpoint.MidDenoise, failpoint.BeforeAck},
	"worker frozen":               {failpoint.InputFetched, failpoint.BeforeCommit},
	"worker frozen, other killed": {failpoint.InputFetched},
	"refused, worker killed":      {failpoint.AfterCommit},
	"cancelled, worker killed":    {failpoint.AfterImagePut},
}
