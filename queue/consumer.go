package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

// Handler does the work.
type Handler interface {
	// Process runs one attempt. ctx ends with cause job.ErrCancelled,
	// job.ErrShutdown or job.ErrTimeout; it may be over already, when the job
	// was cancelled while it waited: then the handler records that. report is
	// cheap and never blocks.
	//
	// An outcome says that the job has ended and is recorded. After an error
	// the job is tried again, or refused with the error where it is final or
	// no attempt is left.
	Process(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error)

	// Refuse records that a job has failed which cannot run or has no attempt
	// left. j may be read in part only; its ID is valid. If a record stands
	// already, that one is the outcome. After an error the job is tried again.
	Refuse(ctx context.Context, j *job.Job, a job.Attempt, reason *job.Error) (job.Outcome, error)
}

// Options are what a consumer needs.
type Options struct {
	Connection Connection
	// Queues are the queues to serve and their weights: 6 and 1 means that the
	// first is asked first six times out of seven.
	Queues map[string]int
	// Concurrency is the number of jobs in hand at once.
	Concurrency int
	// Capacity, if not nil, tells how many of them can be worked on now: no job
	// is taken that nobody could work on. It must not block.
	Capacity func() int
	// MaxAttempts is how often a job is begun before it fails.
	MaxAttempts int
	// Timeout bounds one attempt.
	Timeout time.Duration
	// ShutdownGrace is how long jobs in hand may go on after Run was told to stop.
	ShutdownGrace time.Duration
	// StatusTTL is how long a status is kept; 0 is DefaultStatusTTL.
	StatusTTL time.Duration
	// Limits narrow what a job may ask for.
	Limits job.Limits
	// Keys open sealed payloads.
	Keys seal.Keys
	// Gate is asked before a job is taken; while it gives an error, for example
	// because the storage is away, none is. May be nil.
	Gate     func() error
	Handler  Handler
	Log      *slog.Logger
	Observer Observer // may be nil
	// Version of the program and About, which may be nil and must be quick, are
	// for the sign of life.
	Version string
	About   func() About
}

func (o *Options) check() error {
	var problems []error
	for name, weight := range o.Queues {
		if !validQueue.MatchString(name) || weight < 1 {
			// asynq would leave out such a queue without a word.
			problems = append(problems, fmt.Errorf("queue %q: needs a plain name and a weight of at least 1", name))
		}
	}
	for _, rule := range []struct {
		broken bool
		says   string
	}{
		{len(o.Queues) == 0, "no queue to serve"},
		{o.Concurrency < 1, "concurrency: must be at least 1"},
		{o.MaxAttempts < 1, "attempts: must be at least 1"},
		{o.Timeout <= 0, "timeout: must be above zero"},
		{o.ShutdownGrace < 0, "shutdown grace: must not be negative"},
		{o.StatusTTL != 0 && o.StatusTTL < time.Second, "status ttl: must be at least a second"},
		{o.Handler == nil, "no handler"},
	} {
		if rule.broken {
			problems = append(problems, errors.New(rule.says))
		}
	}
	return errors.Join(problems...)
}

// Consumer takes jobs from Redis and has them done.
type Consumer struct {
	opts     Options
	log      *slog.Logger
	redis    redis.UniversalClient // ours
	theirs   redis.UniversalClient // asynq's, with the hook
	hook     *asynqHook
	server   *asynq.Server
	statuses statuses
	attempts attempts
	owners   owners
	reaper   *reaper
	slots    *slots
	worker   string    // id of the sign of life
	started  time.Time // of the program, for the sign of life

	settings atomic.Pointer[Settings]
	serving  atomic.Bool   // tasks are being taken
	hurried  chan struct{} // closed when the grace period is over
	hurry    func()        // closes it
	contact  contact
	clock    clock
	settling time.Duration // from a contact on until every live worker has given a sign
	draining chan struct{} // closed when no more tasks are taken

	holding holdOff
	unsaid  unsaid

	refusal     atomic.Pointer[error] // of Redis to write, nil while it does
	saidKeyless atomic.Int64          // when, in seconds since 1970
}

// Settings are the options that can change while a consumer runs.
type Settings struct {
	MaxAttempts   int
	Timeout       time.Duration
	ShutdownGrace time.Duration
}

// Adjust changes a running consumer: what is taken from now on has the new
// settings, and so has a drain that begins from now on.
func (c *Consumer) Adjust(s Settings) error {
	changed := c.opts
	changed.MaxAttempts, changed.Timeout, changed.ShutdownGrace = s.MaxAttempts, s.Timeout, s.ShutdownGrace
	if err := changed.check(); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	c.settings.Store(&s)
	return nil
}

// NewConsumer makes a consumer; it connects to nothing.
func NewConsumer(opts Options) (*Consumer, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	if opts.StatusTTL == 0 {
		opts.StatusTTL = DefaultStatusTTL
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	clients, err := opts.Connection.open(2)
	if err != nil {
		return nil, err
	}
	c := &Consumer{
		opts: opts, log: opts.Log,
		redis: clients[0], theirs: clients[1],
		statuses: statuses{redis: clients[0], ttl: opts.StatusTTL},
		attempts: attempts{redis: clients[0]},
		slots:    newSlots(opts.Concurrency),
		worker:   NewID(), started: time.Now().UTC(),
		clock:    clock{now: time.Now, every: clockEvery},
		settling: beatTTL,
		draining: make(chan struct{}), hurried: make(chan struct{}),
	}
	c.hurry = sync.OnceFunc(func() { close(c.hurried) })
	c.owners = owners{redis: c.redis, worker: c.worker, ttl: beatTTL}
	c.reaper = c.newReaper()
	c.hook = &asynqHook{redis: c.redis, open: c.open, taken: c.slots.expect, quit: c.draining}
	c.theirs.AddHook(c.hook)
	if opts.Observer != nil {
		for _, client := range clients {
			client.AddHook(meter{opts.Observer}) // inside asynq's, which may answer by itself
		}
	}
	c.server = asynq.NewServerFromRedisClient(c.theirs, asynq.Config{
		Concurrency: opts.Concurrency,
		Queues:      opts.Queues,
		// asynq polls. An idle worker starts a job after about half of this.
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: time.Second,
		RetryDelayFunc:           asynqRetryDelay,
		// The count of retries stays where it is, so that asynq never reaches
		// its end and archives a job with its payload. We count ourselves.
		IsFailure: func(error) bool { return false },
		// Shutdown comes after the drain. By then only tasks to hand back
		// are left, and this is what hands them back.
		ShutdownTimeout: 200 * time.Millisecond,
		Logger:          asynqLog{log: opts.Log, quiet: c.contact.lost},
		LogLevel:        asynq.InfoLevel,
	})
	c.settings.Store(&Settings{MaxAttempts: opts.MaxAttempts, Timeout: opts.Timeout, ShutdownGrace: opts.ShutdownGrace})
	return c, nil
}

// asynqRetryDelay is also asked for tasks that asynq takes back by itself.
func asynqRetryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	if l, ok := errors.AsType[*later](err); ok {
		return l.delay
	}
	// asynq's cancel. The work goes on here and will most likely be recorded
	// before anybody tries again.
	return time.Minute
}

// Run serves the queues until ctx ends. Then it takes no more jobs, lets those
// in hand go on for the grace period, hands back what has not ended, and
// returns when all work has really ended. While Redis is away at the start it
// waits. Run may be called once.
func (c *Consumer) Run(ctx context.Context) error {
	defer func() {
		_ = c.theirs.Close() // nothing is left to be written
		_ = c.redis.Close()
	}()
	if !c.reach(ctx) {
		return nil
	}
	c.warnOfServer(ctx)
	c.checkClock(ctx)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	background.Go(func() { c.listen(life) })
	background.Go(func() { c.pulse(life) })
	background.Go(func() { c.reaper.run(life) })

	if err := c.server.Start(asynq.HandlerFunc(c.processTask)); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	c.serving.Store(true)
	c.log.Info("taking jobs", "queues", c.opts.Queues, "slots", c.opts.Concurrency)
	<-ctx.Done()
	c.drain(context.WithoutCancel(ctx))
	return nil
}

// Hurry ends the grace period of a Run that was told to stop: the jobs in hand
// are handed back as soon as they have ended.
func (c *Consumer) Hurry() { c.hurry() }

// The reasons for which no job is taken.
var (
	errNotServing = errors.New("the worker has not started, or stops")
	errAway       = errors.New("redis does not answer")
	errClock      = errors.New("this machine's clock differs from that of redis")
)

// Checks says for each thing that jobs cannot be taken without why they are not
// taken because of it, nil where all is well. The gate is not among them.
func (c *Consumer) Checks() map[string]error {
	checks := map[string]error{"queue": nil, "redis": nil, "clock": nil}
	if !c.serving.Load() {
		checks["queue"] = errNotServing
	}
	if refusal := c.refusal.Load(); refusal != nil {
		checks["redis"] = fmt.Errorf("redis refuses to write: %w", *refusal)
	}
	if c.contact.lost() {
		checks["redis"] = errAway
	}
	if c.clock.wrong.Load() {
		checks["clock"] = errClock
	}
	return checks
}

// Ready reports whether all checks are well and the gate is open.
func (c *Consumer) Ready() bool {
	for _, err := range c.Checks() {
		if err != nil {
			return false
		}
	}
	return c.gate()
}

func (c *Consumer) gate() bool { return c.opts.Gate == nil || c.opts.Gate() == nil }

// reach waits until Redis answers; false if ctx ends first.
func (c *Consumer) reach(ctx context.Context) bool {
	for {
		ping, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := c.redis.Ping(ping).Err()
		cancel()
		if ctx.Err() != nil {
			return false
		}
		c.noteRedis(err)
		if err == nil {
			return true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return false
		}
	}
}

// drain ends the work. asynq's own shutdown would give tasks back while their
// handlers still run (A4).
func (c *Consumer) drain(ctx context.Context) {
	c.serving.Store(false)
	grace, cancel := context.WithTimeout(ctx, c.settings.Load().ShutdownGrace)
	defer cancel()
	go func() {
		select {
		case <-c.hurried:
			cancel()
		case <-grace.Done():
		}
	}()
	c.log.Info("taking no more jobs", "in_hand", len(c.slots.jobs()), "grace", c.settings.Load().ShutdownGrace)
	close(c.draining)
	c.server.Stop()
	if c.slots.idle(grace) != nil {
		c.log.Info("handing back the jobs in hand", "job_ids", c.slots.jobs())
	}
	c.slots.close()
	for {
		patience, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := c.slots.idle(patience)
		cancel()
		if err == nil {
			break
		}
		c.log.Warn("waiting for work that does not stop", "job_ids", c.slots.jobs())
	}
	c.server.Shutdown()
	c.sayUnsaid(ctx)
}

// open reports whether another task may be taken.
func (c *Consumer) open() bool {
	select {
	case <-c.draining:
		return false
	default:
		return c.slots.free(c.capacity()) && c.holding.over() && !c.clock.wrong.Load() && c.gate()
	}
}

// capacity is how many jobs can be in hand at once, as things stand.
func (c *Consumer) capacity() int {
	if c.opts.Capacity == nil {
		return c.opts.Concurrency
	}
	return c.opts.Capacity()
}
