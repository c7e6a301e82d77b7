package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/processor"
)

func (a *app) generateCommand() *cobra.Command {
	var flags jobFlags
	var jobs, modelsDir, output string
	var isolated bool
	cmd := &cobra.Command{
		Use:   "generate --model DIR-OR-NAME --prompt P --output DIR\n  worker generate --models DIR --jobs FILE.jsonl --output DIR",
		Short: "Make pictures here and now, with no queue and no storage",
		Long: `Makes the pictures of one job, given by flags, or of many, one JSON job a line.
Each job's images and its record go to OUTPUT/<job id>/0.png, 1.png, …,
result.json; the records are printed in order. In a jobs file, input and mask
are paths relative to that file. A failed job has a record that says why, and
the exit status is then 1.`,
		Example: `  worker generate --model demo --prompt "a large yellow star on a purple background" --output out
  worker generate --model ./models/sd15 --prompt "a lighthouse" --seed 42 --images 4 --output out
  worker generate --model demo --prompt "a red heart on a white background" --input photo.jpg --strength 0.6 --output out
  worker generate --models ./models --jobs jobs.jsonl --output out --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				return usage("--output is required: the folder for images and records")
			}
			if jobs == "" && flags.model == "" {
				return usage("give --model and --prompt, or --jobs; see worker generate --help")
			}
			if jobs != "" {
				if err := flags.exclude(cmd, "jobs"); err != nil {
					return err
				}
			}
			if cmd.Flags().Changed("models") {
				a.environ = append(a.environ, "IMGUS_MODELS_DIRECTORY="+modelsDir)
			}
			g, err := a.newGenerator(cmd.Context(), &flags, output, isolated)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if jobs != "" {
				err = g.fromFile(ctx, jobs)
			} else {
				err = g.fromFlags(ctx, cmd, &flags)
			}
			return g.close(err)
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&output, "output", "", "`DIR` for images and records")
	cmd.Flags().StringVar(&jobs, "jobs", "", "`FILE` with one JSON job a line (- for standard input)")
	cmd.Flags().StringVar(&modelsDir, "models", "", "`DIR` of models (default: models.directory)")
	registerIsolate(cmd, &isolated)
	return cmd
}

// generator runs jobs one after the other.
type generator struct {
	app    *app
	engine engine
	record processor.Recorder
	guard  processor.Guard
	verify func(*job.Job, []byte) error
	output string
	failed bool
}

func (a *app) newGenerator(ctx context.Context, flags *jobFlags, output string, isolated bool) (*generator, error) {
	c, err := a.load()
	if err != nil {
		return nil, err
	}
	checks, err := openChecks(c.Safety)
	if err != nil {
		return nil, err
	}
	model, err := onlyModel(flags)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(output, 0o700); err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	engine, err := a.startEngine(ctx, c, isolated, model, a.logger(c.Log))
	if err != nil {
		return nil, err
	}
	return &generator{app: a, engine: engine, record: recorder(c.Record), guard: checks.guard(engine), verify: verifier(c.Mark), output: output}, nil
}

// onlyModel is the folder that --model gave, whose model then goes by its name;
// "" if it gave a name.
func onlyModel(flags *jobFlags) (folder string, err error) {
	if !isModelFolder(flags.model) {
		return "", nil
	}
	folder = flags.model
	m, err := models.Open(folder)
	if err != nil {
		return "", fmt.Errorf("open model: %w", err)
	}
	flags.model = m.Manifest.Name
	return folder, nil
}

// registerIsolate adds the flag that has the models run in another process.
func registerIsolate(cmd *cobra.Command, isolated *bool) {
	cmd.Flags().BoolVar(isolated, "isolate", false, "run the models in a process of their own, as worker run does")
}

func (g *generator) close(err error) error {
	if closeErr := g.engine.Close(); err == nil {
		err = closeErr
	}
	if err == nil && g.failed {
		return failed()
	}
	return err
}

func (g *generator) fromFlags(ctx context.Context, cmd *cobra.Command, flags *jobFlags) error {
	j := flags.job(cmd)
	if flags.input != "" {
		j.Input = &flags.input
	}
	if flags.mask != "" {
		j.Mask = &flags.mask
	}
	return g.one(ctx, j, j.Validate(job.Limits{}), "")
}

func (g *generator) fromFile(ctx context.Context, file string) error {
	in := io.NopCloser(g.app.stdin)
	base := "."
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return usage("open jobs: %w", err)
		}
		in, base = f, filepath.Dir(file)
	}
	defer in.Close()
	lines := bufio.NewReader(in)
	for {
		line, tooLong, err := readLine(lines)
		if line = bytes.TrimSpace(line); len(line) > 0 {
			j, invalid := job.Parse(line, job.Limits{})
			if tooLong {
				invalid = job.Errorf(job.InvalidJob, "the job must be at most %d bytes of JSON", job.MaxPayload)
			}
			if err := g.one(ctx, j, invalid, base); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return usage("read jobs: %w", err)
		}
	}
}

// readLine reads a line, of one that is too long only its beginning.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if room := job.MaxPayload + 1 - len(line); len(part) > room {
			part, tooLong = part[:room], true
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}

// one makes one job's images and prints its record. The error is of what ends
// the whole command; a job that fails has a record of it.
func (g *generator) one(ctx context.Context, j *job.Job, invalid error, base string) error {
	attempt := job.Attempt{ID: "local", Number: 1}
	start := time.Now()
	checks := processor.Checks{Guard: g.guard}
	var result *inference.Result
	err := invalid
	if err == nil && j.Expired(start) {
		err = job.Errorf(job.Expired, "the job's time was over before it began")
	}
	if err == nil {
		result, err = g.generate(ctx, j, base, &checks)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var record *job.Record
	if err != nil {
		g.failed = true
		known := job.AsError(err)
		record = g.record.Failed(j, attempt, known)
		if known.Err != nil { // the cause, which the record does not have
			fmt.Fprintln(g.app.stderr, "worker:", err)
		}
	} else {
		storing := time.Now()
		images, err := g.store(j.ID, result.Images)
		if err != nil {
			return err
		}
		record = g.record.Done(j, attempt, result, images)
		record.Safety = checks.Verdicts
		record.Timings[job.StageStore] = time.Since(storing).Milliseconds()
		record.Timings[job.StageTotal] = time.Since(start).Milliseconds()
	}
	if job.ValidID(j.ID) {
		if err := g.write(path.Join(j.ID, "result.json"), record); err != nil {
			return err
		}
	}
	return g.app.print(record)
}

func (g *generator) generate(ctx context.Context, j *job.Job, base string, checks *processor.Checks) (*inference.Result, error) {
	r := inference.Request{Job: j}
	err := checks.Prompt(j)
	if err != nil {
		return nil, err
	}
	for _, input := range []struct {
		field string
		file  *string
		data  *[]byte
	}{{"input", j.Input, &r.Input}, {"mask", j.Mask, &r.Mask}} {
		if input.file == nil {
			continue
		}
		file := *input.file
		if !filepath.IsAbs(file) {
			file = filepath.Join(base, file)
		}
		if *input.data, err = readInput(file, input.field); err != nil {
			return nil, err
		}
	}
	if err := checks.Input(ctx, r.Input); err != nil {
		return nil, err
	}
	bar := newProgressBar(g.app.stderr)
	defer bar.done()
	r.Progress = bar.show
	result, err := g.engine.Generate(ctx, r)
	if err == nil {
		err = checks.Output(ctx, result.Images)
	}
	if err == nil {
		err = processor.Verify(g.verify, j, result.Images)
	}
	return result, err
}

// store writes the images; their keys are relative to the output. Those of an
// earlier run of the id go.
func (g *generator) store(id string, images []inference.Image) ([]job.Image, error) {
	for _, format := range job.Formats() {
		old, _ := filepath.Glob(filepath.Join(g.output, id, "[0-9]."+format.Extension())) // the pattern is good
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				return nil, fmt.Errorf("remove an earlier image: %w", err)
			}
		}
	}
	out := make([]job.Image, len(images))
	for i, image := range images {
		key := path.Join(id, fmt.Sprintf("%d.%s", i, image.Format.Extension()))
		if err := g.writeFile(key, image.Data); err != nil {
			return nil, err
		}
		out[i] = g.record.Image(key, image)
	}
	return out, nil
}

func (g *generator) write(key string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	return g.writeFile(key, append(data, '\n'))
}

func (g *generator) writeFile(key string, data []byte) error {
	file := filepath.Join(g.output, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("create output: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
