package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage"
)

func (a *app) enqueueCommand() *cobra.Command {
	var e enqueuer
	cmd := &cobra.Command{
		Use:   "enqueue --job FILE\n  worker enqueue --model NAME --prompt P",
		Short: "Put a job into Redis",
		Long: `Puts one job into Redis, given as JSON or by flags, and prints its id, queue and
state. A second enqueue of an id changes nothing and says so. --input uploads a
photo for this job; --input-key names an object that is in the bucket already.
With --wait it shows the job's progress and ends with its record; the exit
status is then 1 if the job failed.`,
		Example: `  worker enqueue --job job.json
  worker enqueue --model demo --prompt "a small red circle on a blue background" --wait
  worker enqueue --model demo --prompt "a red heart on a white background" --input photo.jpg --strength 0.6 --queue batch`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			e.app = a
			return e.run(cmd)
		},
	}
	e.flags.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&e.jobFile, "job", "", "`FILE` with the job's JSON (- for standard input)")
	flags.StringVar(&e.queue, "queue", "", "`QUEUE` (default: the one with the highest priority)")
	flags.BoolVar(&e.wait, "wait", false, "wait for the job and end with its record")
	flags.StringVar(&e.inputKey, "input-key", "", "`KEY` of a photo that is in the bucket already")
	flags.StringVar(&e.maskKey, "mask-key", "", "`KEY` of a mask that is in the bucket already")
	flags.StringVar(&e.flags.subject, "subject", "", "pseudonym of the user whom the job is for")
	flags.BoolVar(&e.flags.keepInput, "keep-input", false, "leave the input in the bucket for other jobs")
	return cmd
}

// enqueuer is one run of worker enqueue.
type enqueuer struct {
	app                               *app
	flags                             jobFlags
	jobFile, queue, inputKey, maskKey string
	wait                              bool
	config                            configs.Config
}

func (e *enqueuer) run(cmd *cobra.Command) error {
	if err := e.check(cmd); err != nil {
		return err
	}
	j, err := e.job(cmd)
	if err != nil {
		return err
	}
	var needs []configs.Need
	if e.wait || e.flags.input != "" || e.flags.mask != "" {
		needs = append(needs, configs.NeedStorage)
	}
	if e.config, err = e.app.load(needs...); err != nil {
		return err
	}
	if e.queue == "" {
		e.queue = firstQueue(e.config.Queues)
	} else if e.config.Queues[e.queue] == 0 {
		fmt.Fprintf(e.app.stderr, "worker: no queue %s is configured here; a worker must serve it\n", e.queue)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	opts := clientOptions(e.config)
	opts.Headers = func(context.Context) map[string]string { return e.app.trace() }
	client, err := queue.NewClient(opts)
	if err != nil {
		return err
	}
	defer client.Close()
	if len(needs) == 0 {
		return e.enqueue(ctx, client, j)
	}
	bucket, err := openBucket(e.config.Storage)
	if err != nil {
		return err
	}
	defer bucket.Close()
	if err := e.enqueueWithInput(ctx, client, bucket, j); err != nil || !e.wait {
		return err
	}
	return e.app.follow(ctx, client, bucket, j.ID)
}

// trace is the trace context that the command was started in, if any, by the
// variable that tools for shells use.
func (a *app) trace() map[string]string {
	value := lookupEnv(a.environ, "TRACEPARENT")
	if !traceparent.MatchString(value) {
		return nil
	}
	return map[string]string{"traceparent": value}
}

var traceparent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// check refuses flags that contradict each other.
func (e *enqueuer) check(cmd *cobra.Command) error {
	for _, pair := range [][2]string{{"input", "input-key"}, {"mask", "mask-key"}} {
		if cmd.Flags().Changed(pair[0]) && cmd.Flags().Changed(pair[1]) {
			return usage("give --%s or --%s, not both", pair[0], pair[1])
		}
	}
	if e.jobFile == "" {
		return nil
	}
	return e.flags.exclude(cmd, "job", "input", "mask")
}

// enqueueWithInput uploads the job's photo and mask, and takes them back if the
// job does not get into the queue. For an id that is known nothing is touched:
// its photo is another job's.
func (e *enqueuer) enqueueWithInput(ctx context.Context, client *queue.Client, bucket storage.Bucket, j *job.Job) error {
	_, err := client.Status(ctx, j.ID)
	if err == nil {
		return e.enqueue(ctx, client, j) // says that it exists
	}
	if !errors.Is(err, queue.ErrUnknownJob) {
		return fmt.Errorf("enqueue job: %w", err)
	}
	uploaded, err := e.upload(ctx, bucket, j)
	if err == nil {
		err = e.enqueue(ctx, client, j)
	}
	if err == nil {
		return nil
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if _, known := client.Status(clean, j.ID); !errors.Is(known, queue.ErrUnknownJob) {
		return err // it may be in the queue after all, and then the photo is its
	}
	for _, key := range uploaded {
		if deleteErr := bucket.Delete(clean, key); deleteErr != nil {
			err = errors.Join(err, fmt.Errorf("take the upload back: %w", deleteErr))
		}
	}
	return err
}

// firstQueue is the queue of the highest priority, by name among equals.
func firstQueue(queues map[string]int) string {
	names := slices.Sorted(maps.Keys(queues))
	return slices.MaxFunc(names, func(a, b string) int { return queues[a] - queues[b] })
}

// job reads the job and checks it before anything is uploaded.
func (e *enqueuer) job(cmd *cobra.Command) (*job.Job, error) {
	var j *job.Job
	if e.jobFile == "" {
		if e.flags.model == "" {
			return nil, usage("give --job, or --model and --prompt; see worker enqueue --help")
		}
		j = e.flags.job(cmd)
		set(e.inputKey != "", &j.Input, e.inputKey)
		set(e.maskKey != "", &j.Mask, e.maskKey)
	} else {
		data, err := e.readJob()
		if err != nil {
			return nil, err
		}
		if j, err = job.Decode(data); err != nil {
			// Everything else that is wrong with it is told at the same time.
			_, err = job.Parse(data, job.Limits{})
			return nil, err
		}
	}
	set(e.flags.input != "", &j.Input, storage.InputKey(j.ID, "input"))
	set(e.flags.mask != "", &j.Mask, storage.InputKey(j.ID, "mask"))
	return j, j.Validate(job.Limits{})
}

func (e *enqueuer) readJob() ([]byte, error) {
	in := e.app.stdin
	if e.jobFile != "-" {
		f, err := os.Open(e.jobFile)
		if err != nil {
			return nil, usage("open job: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, job.MaxPayload+1))
	if err != nil {
		return nil, usage("read job: %w", err)
	}
	return data, nil
}

// upload puts the photo and mask where the job says they are, and names the
// keys it put.
func (e *enqueuer) upload(ctx context.Context, bucket storage.Bucket, j *job.Job) (keys []string, err error) {
	for _, u := range []struct{ file, what string }{{e.flags.input, "input"}, {e.flags.mask, "mask"}} {
		if u.file == "" {
			continue
		}
		data, err := readInput(u.file, u.what)
		if err != nil {
			return keys, err
		}
		key := storage.InputKey(j.ID, u.what)
		keys = append(keys, key)
		if err := bucket.Put(ctx, key, data, storage.PutOptions{ContentType: "application/octet-stream"}); err != nil {
			return keys, fmt.Errorf("upload %s: %w", u.what, err)
		}
	}
	return keys, nil
}

func (e *enqueuer) enqueue(ctx context.Context, client *queue.Client, j *job.Job) error {
	receipt, err := client.Enqueue(ctx, j, e.queue)
	if errors.Is(err, queue.ErrQueueName) {
		return usage("--queue: %w", err)
	}
	if err != nil {
		return fmt.Errorf("enqueue job: %w", err)
	}
	if receipt.Existing {
		fmt.Fprintf(e.app.stderr, "worker: job %s was enqueued before; nothing was changed\n", receipt.ID)
	}
	return e.app.print(receipt)
}

// follow shows a job's progress until it has ended, and prints its record.
func (a *app) follow(ctx context.Context, client *queue.Client, bucket storage.Bucket, id string) error {
	last, err := a.watch(ctx, client, id)
	if err != nil {
		return err
	}
	record, err := readRecord(ctx, bucket, id)
	if err != nil {
		return err
	}
	if err := a.print(record); err != nil {
		return err
	}
	if last.State != job.Done {
		return failed()
	}
	return nil
}

// watch shows a job's progress until it has ended.
func (a *app) watch(ctx context.Context, client *queue.Client, id string) (queue.Status, error) {
	bar := newProgressBar(a.stderr)
	defer bar.done()
	var last queue.Status
	for status, err := range client.Watch(ctx, id) {
		if err != nil {
			return last, fmt.Errorf("watch job: %w", err)
		}
		last = status
		if status.State == job.Queued {
			status.Stage = job.StageQueued
		}
		bar.show(job.Progress{Stage: status.Stage, Step: status.Step, Steps: status.Steps})
	}
	return last, nil
}

func readRecord(ctx context.Context, bucket storage.Bucket, id string) (*job.Record, error) {
	data, err := bucket.Get(ctx, storage.RecordKey(id), storage.MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	return job.DecodeRecord(data)
}

// recordOf reads the record of a job if there is one. A storage that is not
// configured, or away, is no error where the status still tells something: it is
// said on standard error.
func (a *app) recordOf(ctx context.Context, id string) *job.Record {
	c, err := a.load(configs.NeedStorage)
	if err != nil {
		return nil
	}
	bucket, err := openBucket(c.Storage)
	if err == nil {
		defer bucket.Close()
		var record *job.Record
		if record, err = readRecord(ctx, bucket, id); err == nil {
			return record
		}
	}
	if !errors.Is(err, storage.ErrNotFound) {
		fmt.Fprintln(a.stderr, "worker:", err)
	}
	return nil
}
