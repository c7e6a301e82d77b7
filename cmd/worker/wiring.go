package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/imaging/mark"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/janitor"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/demo"
	"github.com/imgus/worker/processor"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/directory"
	"github.com/imgus/worker/storage/s3"
)

// load reads the configuration.
func (a *app) load(needs ...configs.Need) (configs.Config, error) {
	c, _, err := configs.Load(a.configFile, a.environ, needs...)
	return c, err
}

// logger writes to standard error: text for a person, JSON for a machine. Its
// level is the program's, which setLevel changes.
func (a *app) logger(c configs.Log) *slog.Logger {
	a.setLevel(c.Level)
	if format(c.Format, a.stderr) == "text" {
		return slog.New(tint.NewTextHandler(a.stderr, &tint.Options{Level: &a.level, NoColor: !isTerminal(a.stderr)}))
	}
	return slog.New(slog.NewJSONHandler(a.stderr, &slog.HandlerOptions{Level: &a.level, ReplaceAttr: readable}))
}

func (a *app) setLevel(name string) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err == nil { // the configuration was checked
		a.level.Set(level)
	}
}

// format resolves "auto".
func format(configured string, out io.Writer) string {
	switch {
	case configured != "auto":
		return configured
	case isTerminal(out):
		return "text"
	default:
		return "json"
	}
}

// readable writes durations as 2m0s; JSON has them as nanoseconds otherwise.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// catalogue is the configured directory and the models in the binary.
func catalogue(dir string) (*models.Catalogue, error) {
	m, err := models.OpenFS(demo.Files())
	if err != nil {
		return nil, fmt.Errorf("open demo model: %w", err)
	}
	return models.New(dir, m), nil
}

// openEngine starts ONNX Runtime and the configured devices in this process.
func openEngine(c configs.Config, models *models.Catalogue, log *slog.Logger) (*local.Engine, error) {
	library, err := findLibrary(c.Engine.Library)
	if err != nil {
		return nil, err
	}
	classifier, err := openClassifier(classifierFolder(c.Safety))
	if err != nil {
		return nil, err
	}
	return local.Open(local.Options{
		Library: library, Devices: devices(c.Engine.Devices), Threads: c.Engine.Threads, CUDA: c.Engine.CUDA,
		MemoryBudget: int64(c.Engine.MemoryBudget), Tiling: c.Engine.VAETiling, Catalogue: models, Classifier: classifier, Limits: limits(c.Limits), Worker: version, Mark: markName(c.Mark), Log: log,
	})
}

// devices resolves "auto": every NVIDIA GPU that the driver shows, else the
// processor.
func devices(configured configs.Devices) []string {
	if !configured.Auto() {
		return configured
	}
	gpus, _ := filepath.Glob("/proc/driver/nvidia/gpus/*") // the pattern is good
	if len(gpus) == 0 {
		return []string{string(onnx.CPU)}
	}
	names := make([]string, len(gpus))
	for i := range gpus {
		names[i] = fmt.Sprintf("cuda:%d", i)
	}
	return names
}

// findLibrary finds ONNX Runtime: where the configuration says, beside the
// program, where the checkout keeps it, or where the system does.
func findLibrary(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	const name = "libonnxruntime.so"
	var places []string
	if program, err := os.Executable(); err == nil {
		dir := filepath.Dir(program)
		places = append(places, filepath.Join(dir, name), filepath.Join(dir, "..", "lib", name))
		cached, _ := filepath.Glob(filepath.Join(dir, "..", ".cache", "onnxruntime", "*-cpu-"+runtime.GOARCH, name)) // the pattern is good
		slices.Sort(cached)
		slices.Reverse(cached)
		places = append(places, cached...)
	}
	places = append(places, filepath.Join("/usr/local/lib", name), filepath.Join("/usr/lib", name))
	for _, place := range places {
		if _, err := os.Stat(place); err == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("%w: it is nowhere to be found; set engine.library (IMGUS_ENGINE_LIBRARY) to libonnxruntime.so, or run scripts/onnxruntime.sh in a checkout, which fetches it",
		onnx.ErrLibrary)
}

// limits are the configured limits in the vocabulary's terms.
func limits(c configs.Limits) job.Limits {
	return job.Limits{
		Steps: c.Steps, Images: c.Images, Width: c.Width, Height: c.Height, Pixels: int64(c.Pixels), Prompt: c.PromptLength,
		InputBytes: int64(c.InputBytes), InputPixels: int64(c.InputPixels), InputSide: c.InputSide,
	}
}

// bucket is a storage that holds something open.
type bucket interface {
	storage.Bucket
	io.Closer
}

// openBucket opens the configured storage.
func openBucket(c configs.Storage) (bucket, error) { return openBucketThrough(c, nil) }

// openBucketThrough is openBucket with something between it and the network.
func openBucketThrough(c configs.Storage, between func(http.RoundTripper) http.RoundTripper) (bucket, error) {
	if c.Kind == "directory" {
		return directory.Open(filepath.Join(c.Directory, filepath.FromSlash(c.Prefix)))
	}
	return s3.Open(s3.Options{
		Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, Prefix: c.Prefix,
		AccessKey: secret(c.AccessKey), SecretKey: secret(c.SecretKey), TLS: c.TLS, CAFile: c.CAFile, Between: between,
	})
}

// secret gives a secret's text, which its String method hides.
func secret(s configs.Secret) string { return string(s) }

// connection is the configured Redis.
func connection(c configs.Redis) queue.Connection {
	return queue.Connection{
		URL: secret(c.URL), Username: c.Username, Password: secret(c.Password),
		TLS:      queue.TLS{Enabled: c.TLS.Enabled, CAFile: c.TLS.CAFile},
		Sentinel: queue.Sentinel{Master: c.Sentinel.Master, Addresses: c.Sentinel.Addresses},
		Cluster:  queue.Cluster{Addresses: c.Cluster.Addresses},
	}
}

// sealKeys are the configured keys of sealed payloads.
func sealKeys(c configs.Seal) seal.Keys {
	return seal.Keys{Directory: c.Directory, Key: c.Key, Required: c.Required}
}

// clientOptions are what a client of the configured Redis needs.
func clientOptions(c configs.Config) queue.ClientOptions {
	return queue.ClientOptions{Connection: connection(c.Redis), StatusTTL: c.Job.StatusTTL, Keys: sealKeys(c.Seal)}
}

// retention is the configured retention in the janitor's terms.
func retention(c configs.Retention) janitor.Retention { return janitor.Retention(c) }

// recorder writes records as configured.
func recorder(c configs.Record) processor.Recorder {
	return processor.Recorder{Prompts: c.Prompt == "full"}
}

// markName is the name of the system that engines mark pictures with; "" is none.
func markName(c configs.Mark) string {
	if !c.Enabled {
		return ""
	}
	return c.System
}

// verifier checks that a job's picture is marked as configured, before anyone
// may see it; nil checks nothing.
func verifier(c configs.Mark) func(*job.Job, []byte) error {
	if !c.Enabled {
		return nil
	}
	return func(j *job.Job, picture []byte) error { return mark.Of(j, c.System, version).Verify(picture) }
}

// isModelFolder reports whether the argument of --model is a folder rather than
// a name.
func isModelFolder(model string) bool {
	_, err := os.Stat(filepath.Join(model, "model_index.json"))
	return err == nil
}
