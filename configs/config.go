// Package configs is the worker's configuration: its keys, their defaults,
// where they may come from and what they must satisfy. Each room takes a small
// Options of its own; only the program sees this package.
package configs

import (
	_ "embed"
	"time"

	"github.com/imgus/worker/job"
)

// Reference is worker.yaml: every key with its default and what it means.
//
//go:embed worker.yaml
var Reference string

// Config is the whole configuration. Its mapstructure tags are the keys of the
// YAML file; worker.yaml says what each one means.
type Config struct {
	Log     Log            `mapstructure:"log"`
	Redis   Redis          `mapstructure:"redis"`
	Seal    Seal           `mapstructure:"seal"`
	Queues  map[string]int `mapstructure:"queues"` // name to priority
	Storage Storage        `mapstructure:"storage"`
	Models  Models         `mapstructure:"models"`
	Engine  Engine         `mapstructure:"engine"`
	Limits  Limits         `mapstructure:"limits"`
	Job     Job            `mapstructure:"job"`
	Record  Record         `mapstructure:"record"`
	Mark    Mark           `mapstructure:"mark"`
	Safety  Safety         `mapstructure:"safety"`
	Privacy Privacy        `mapstructure:"privacy"`

	Retention Retention `mapstructure:"retention"`

	HTTP    HTTP    `mapstructure:"http"`
	Tracing Tracing `mapstructure:"tracing"`
}

// Log says what is logged, and how.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn, error
	Format string `mapstructure:"format"` // auto, text, json
}

// Redis is reached by a URL, or through Sentinel, or as a Cluster.
type Redis struct {
	URL            Secret   `mapstructure:"url"` // may hold a password
	Username       string   `mapstructure:"username"`
	Password       Secret   `mapstructure:"password"`
	AllowPlaintext bool     `mapstructure:"allow_plaintext"`
	TLS            RedisTLS `mapstructure:"tls"`
	Sentinel       Sentinel `mapstructure:"sentinel"`
	Cluster        Cluster  `mapstructure:"cluster"`
}

// RedisTLS is the encryption of the connection to Redis.
type RedisTLS struct {
	Enabled bool   `mapstructure:"enabled"`
	CAFile  string `mapstructure:"ca_file"`
}

// Sentinel finds the master of that name.
type Sentinel struct {
	Master    string   `mapstructure:"master"`
	Addresses []string `mapstructure:"addresses"`
}

// Cluster is a Redis Cluster, by some of its nodes.
type Cluster struct {
	Addresses []string `mapstructure:"addresses"`
}

// Seal is the encryption of what producers put into Redis.
type Seal struct {
	Directory string `mapstructure:"directory"` // a file for each key
	Key       string `mapstructure:"key"`       // the id of the one to seal with
	Required  bool   `mapstructure:"required"`
}

// Storage is where inputs, images and records are.
type Storage struct {
	Kind           string `mapstructure:"kind"` // s3, directory
	Directory      string `mapstructure:"directory"`
	Endpoint       string `mapstructure:"endpoint"` // host or host:port
	Region         string `mapstructure:"region"`
	Bucket         string `mapstructure:"bucket"`
	Prefix         string `mapstructure:"prefix"`
	AccessKey      Secret `mapstructure:"access_key"`
	SecretKey      Secret `mapstructure:"secret_key"`
	TLS            bool   `mapstructure:"tls"`
	CAFile         string `mapstructure:"ca_file"`
	AllowPlaintext bool   `mapstructure:"allow_plaintext"`
}

// Models is the catalogue.
type Models struct {
	Directory string `mapstructure:"directory"`
}

// Engine is ONNX Runtime and its devices.
type Engine struct {
	Library      string            `mapstructure:"library"`
	Devices      Devices           `mapstructure:"devices"`
	MemoryBudget Size              `mapstructure:"memory_budget"` // per device; 0: most of what it has
	Threads      int               `mapstructure:"threads"`       // 0: one for each core
	Isolate      bool              `mapstructure:"isolate"`
	WarmUp       []string          `mapstructure:"warm_up"` // name, name@WxH, name@WxHxIMAGES
	Pin          []string          `mapstructure:"pin"`     // names
	VAETiling    bool              `mapstructure:"vae_tiling"`
	CUDA         map[string]string `mapstructure:"cuda"` // provider options

	// What the supervisor of isolated engines bounds.
	StartTimeout time.Duration `mapstructure:"start_timeout"`
	LoadTimeout  time.Duration `mapstructure:"load_timeout"`
	StallTimeout time.Duration `mapstructure:"stall_timeout"`
	CancelGrace  time.Duration `mapstructure:"cancel_grace"`
	RecycleAbove Size          `mapstructure:"recycle_above"` // resident; 0: never
	BadAfter     int           `mapstructure:"bad_after"`
}

// Limits narrow what a job may ask for; the defaults are the contract's own.
type Limits struct {
	Steps        int  `mapstructure:"steps"`
	Images       int  `mapstructure:"images"`
	Width        int  `mapstructure:"width"`
	Height       int  `mapstructure:"height"`
	Pixels       int  `mapstructure:"pixels"`
	PromptLength int  `mapstructure:"prompt_length"` // characters
	InputBytes   Size `mapstructure:"input_bytes"`
	InputPixels  int  `mapstructure:"input_pixels"`
	InputSide    int  `mapstructure:"input_side"`
}

// Job is how often, how long and how visibly a job is tried.
type Job struct {
	MaxAttempts   int           `mapstructure:"max_attempts"`
	Timeout       time.Duration `mapstructure:"timeout"`
	ShutdownGrace time.Duration `mapstructure:"shutdown_grace"`
	StatusTTL     time.Duration `mapstructure:"status_ttl"`
}

// Record is what the result record keeps.
type Record struct {
	Prompt string `mapstructure:"prompt"` // none, full
}

// Mark says in every picture that AI made it.
type Mark struct {
	Enabled bool   `mapstructure:"enabled"`
	System  string `mapstructure:"system"`
}

// Privacy is what the rights of users need.
type Privacy struct {
	SubjectKey Secret `mapstructure:"subject_key"`
	ReceiptKey Secret `mapstructure:"receipt_key"` // Ed25519
}

// Retention is how long things are kept in the storage; 0 is for ever.
type Retention struct {
	Inputs  time.Duration `mapstructure:"inputs"`
	Results time.Duration `mapstructure:"results"`
	Failed  time.Duration `mapstructure:"failed"`
}

// Safety is what is checked of jobs.
type Safety struct {
	Prompt SafetyPrompt `mapstructure:"prompt"`
	Image  SafetyImage  `mapstructure:"image"`
}

// SafetyPrompt holds prompts against a list.
type SafetyPrompt struct {
	Policy string `mapstructure:"policy"` // off, flag, block
	List   string `mapstructure:"list"`   // a file
}

// SafetyImage has a classifier look at pictures.
type SafetyImage struct {
	Model  string `mapstructure:"model"`  // a classifier's folder
	Input  string `mapstructure:"input"`  // off, flag, block
	Output string `mapstructure:"output"` // off, flag, block
}

// HTTP serves metrics and health.
type HTTP struct {
	Address      string `mapstructure:"address"`       // host:port; empty: off
	PprofAddress string `mapstructure:"pprof_address"` // the same, of the loopback
}

// Tracing sends spans to a receiver of OTLP over HTTP.
type Tracing struct {
	Endpoint       string  `mapstructure:"endpoint"` // a URL; empty: off
	Sample         float64 `mapstructure:"sample"`   // 0 to 1
	AllowPlaintext bool    `mapstructure:"allow_plaintext"`
}

// Default returns the configuration of a worker that was told nothing. It
// names no bucket, so commands that need storage refuse it.
func Default() Config {
	hard := job.HardLimits()
	return Config{
		Log:     Log{Level: "info", Format: "auto"},
		Redis:   Redis{URL: defaultRedisURL, Sentinel: Sentinel{Addresses: []string{}}, Cluster: Cluster{Addresses: []string{}}},
		Queues:  map[string]int{"interactive": 6, "batch": 1},
		Storage: Storage{Kind: "s3", Region: "us-east-1", TLS: true},
		Models:  Models{Directory: "./models"},
		Engine: Engine{Devices: Devices{"auto"}, Isolate: true, WarmUp: []string{}, Pin: []string{}, CUDA: map[string]string{},
			StartTimeout: 2 * time.Minute, LoadTimeout: 10 * time.Minute, StallTimeout: 10 * time.Minute, CancelGrace: 5 * time.Second, BadAfter: 5},
		Limits: Limits{
			Steps: hard.Steps, Images: hard.Images, Width: hard.Width, Height: hard.Height, Pixels: int(hard.Pixels),
			PromptLength: hard.Prompt,
			InputBytes:   Size(hard.InputBytes), InputPixels: int(hard.InputPixels), InputSide: hard.InputSide,
		},
		Job:    Job{MaxAttempts: 3, Timeout: 10 * time.Minute, ShutdownGrace: 2 * time.Minute, StatusTTL: 24 * time.Hour},
		Record: Record{Prompt: "none"},
		Mark:   Mark{Enabled: true, System: "imgus"},
		Safety: Safety{Prompt: SafetyPrompt{Policy: "off"}, Image: SafetyImage{Input: "off", Output: "off"}},
		// Results are the app's to delete, by erasure or by a setting; photos that no
		// job has deleted, and records of jobs that made nothing, go by themselves.
		Retention: Retention{Inputs: 7 * 24 * time.Hour, Failed: 30 * 24 * time.Hour},

		HTTP:    HTTP{Address: "127.0.0.1:9464"},
		Tracing: Tracing{Sample: 1},
	}
}

const defaultRedisURL = "redis://127.0.0.1:6379/0"
