package configs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/configs"
)

// other holds, for every key, a valid value that is not the default.
var other = map[string]string{
	"log.level": "debug", "log.format": "json",
	"redis.url": "rediss://redis.example:6380/3", "redis.username": "worker", "redis.password": "hunter2", "redis.allow_plaintext": "true",
	"redis.tls.enabled": "true", "redis.tls.ca_file": "testdata/ca.pem",
	"redis.sentinel.master": "main", "redis.sentinel.addresses": "127.0.0.1:1,127.0.0.1:2", "redis.cluster.addresses": "127.0.0.1:3,[::1]:4",
	"seal.directory": "testdata/keys", "seal.key": "example", "seal.required": "true",
	"queues":       "gold=9,silver-2=3",
	"storage.kind": "directory", "storage.directory": "/data", "storage.endpoint": "127.0.0.1:9000", "storage.region": "eu-central-1",
	"storage.bucket": "pictures", "storage.prefix": "imgus/one", "storage.access_key": "AKIA", "storage.secret_key": "swordfish",
	"storage.tls": "false", "storage.ca_file": "testdata/ca.pem", "storage.allow_plaintext": "true",
	"models.directory": "/models",
	"engine.library":   "/lib/libonnxruntime.so", "engine.devices": "cpu,cuda:1", "engine.memory_budget": "8GiB", "engine.threads": "3",
	"engine.isolate": "false", "engine.warm_up": "demo,sd1@512x512x4", "engine.vae_tiling": "true", "engine.pin": "demo", "engine.cuda": "gpu_mem_limit=1024,use_tf32=0",
	"engine.start_timeout": "3m", "engine.load_timeout": "20m", "engine.stall_timeout": "5m", "engine.cancel_grace": "2s",
	"engine.recycle_above": "16GiB", "engine.bad_after": "9",
	"limits.steps": "50", "limits.images": "4", "limits.width": "1024", "limits.height": "768", "limits.pixels": "786432",
	"limits.prompt_length": "1000", "limits.input_bytes": "5MiB", "limits.input_pixels": "12000000", "limits.input_side": "8192",
	"job.max_attempts": "5", "job.timeout": "45s", "job.shutdown_grace": "30s", "job.status_ttl": "1h30m",
	"record.prompt": "full", "mark.enabled": "false", "mark.system": "Pictures of Example", "http.address": ":9999",
	"http.pprof_address": "127.0.0.1:6060", "tracing.endpoint": "http://127.0.0.1:4318", "tracing.sample": "0.25", "tracing.allow_plaintext": "true",
	"privacy.subject_key": "of thirty-two characters at least", "privacy.receipt_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
	"retention.inputs": "24h", "retention.results": "8760h", "retention.failed": "48h",
	"safety.prompt.policy": "block", "safety.prompt.list": "words.txt",
	"safety.image.model": "/classifier", "safety.image.input": "flag", "safety.image.output": "block",
}

// company names what must be set along with a key for the whole to be valid.
var company = map[string][]string{
	"redis.tls.ca_file":        {"redis.tls.enabled"},
	"redis.sentinel.master":    {"redis.sentinel.addresses"},
	"redis.sentinel.addresses": {"redis.sentinel.master"},
	"seal.key":                 {"seal.directory"},
	"seal.required":            {"seal.directory"},
	"storage.access_key":       {"storage.secret_key"},
	"storage.secret_key":       {"storage.access_key"},
	"safety.prompt.policy":     {"safety.prompt.list"},
	"safety.image.input":       {"safety.image.model"},
	"safety.image.output":      {"safety.image.model"},
}

func variable(key string) string {
	return "IMGUS_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func environment(keys ...string) []string {
	var environ []string
	for _, key := range keys {
		environ = append(environ, variable(key)+"="+other[key])
	}
	return environ
}

func setting(t *testing.T, c configs.Config, sources configs.Sources, key string) configs.Setting {
	t.Helper()
	for _, s := range configs.Show(c, sources) {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("no key %s", key)
	return configs.Setting{}
}

func TestEveryKeyIsAVariable(t *testing.T) {
	defaults, sources := mustLoad(t, "")
	for _, key := range slices.Sorted(maps.Keys(sources)) {
		t.Run(key, func(t *testing.T) {
			if _, ok := other[key]; !ok {
				t.Fatal("the test has no value for this key")
			}
			c, sources := mustLoad(t, "", environment(append(company[key], key)...)...)
			got := setting(t, c, sources, key)
			want := configs.Setting{Key: key, Value: other[key], Source: variable(key)}
			if hidden := strings.HasSuffix(key, "_key") || key == "redis.password"; hidden {
				want.Value = "******"
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if cmp.Equal(defaults, c) {
				t.Error("the configuration did not change")
			}
		})
	}
}

func TestFileValues(t *testing.T) {
	path := write(t, "c.yaml", `
redis: {url: &url "redis://localhost:1/2"}
queues: {gold: 3}
storage: {kind: directory, directory: "./out", prefix: a/b/}
engine: {devices: cpu, memory_budget: 1.5GiB, cuda: {use_tf32: 0, arena_extend_strategy: kSameAsRequested, prefer_nhwc: true}, warm_up: [demo]}
job: {timeout: 1h}
http: {address: ""}
`)
	c, sources := mustLoad(t, path)
	want := configs.Default()
	want.Redis.URL = "redis://localhost:1/2"
	want.Queues = map[string]int{"gold": 3} // replaced, not merged with the default queues
	want.Storage.Kind, want.Storage.Directory, want.Storage.Prefix = "directory", "./out", "a/b/"
	want.Engine.Devices, want.Engine.MemoryBudget = configs.Devices{"cpu"}, 3<<29
	want.Engine.CUDA = map[string]string{"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested", "prefer_nhwc": "true"}
	want.Engine.WarmUp = []string{"demo"}
	want.Job.Timeout = time.Hour
	want.HTTP.Address = ""
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
	if sources["job.timeout"] != path+":6" {
		t.Errorf("job.timeout comes from %s", sources["job.timeout"])
	}
}

func TestEnvironmentBeatsFile(t *testing.T) {
	path := write(t, "c.yaml", "log: {level: error}\nqueues: {gold: 3}\nengine: {warm_up: [demo]}\nredis: {password: fromfile}\n")
	secret := write(t, "secret", "fromsecret\n")
	c, _ := mustLoad(t, "", "IMGUS_CONFIG="+path, "IMGUS_LOG_LEVEL=warn", "IMGUS_LOG_LEVEL=debug", "IMGUS_QUEUES=batch=1", "IMGUS_ENGINE_WARM_UP=",
		"IMGUS_REDIS_PASSWORD_FILE="+secret, "IMGUS_TEST_ANYTHING=1", "PATH=/bin", "NOTHING")
	want := configs.Default()
	want.Log.Level = "debug"
	want.Queues = map[string]int{"batch": 1}
	want.Redis.Password = "fromsecret"
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsFromFiles(t *testing.T) {
	secret := write(t, "secret", "  s3cret\n")
	url := write(t, "url", "redis://:s3cret@127.0.0.1:6379/1\n")
	for key, get := range map[string]func(configs.Config) configs.Secret{
		"redis.password":     func(c configs.Config) configs.Secret { return c.Redis.Password },
		"storage.access_key": func(c configs.Config) configs.Secret { return c.Storage.AccessKey },
		"storage.secret_key": func(c configs.Config) configs.Secret { return c.Storage.SecretKey },
		"redis.url":          func(c configs.Config) configs.Secret { return c.Redis.URL },
	} {
		t.Run(key, func(t *testing.T) {
			path, want := secret, configs.Secret("s3cret")
			if key == "redis.url" {
				path, want = url, "redis://:s3cret@127.0.0.1:6379/1"
			}
			environ := append(environment(company[key]...), variable(key)+"_FILE="+path)
			c, sources := mustLoad(t, "", environ...)
			if got := get(c); got != want {
				t.Errorf("from the environment: not the file's content but %d bytes", len(got))
			}
			if got, want := sources[key], variable(key)+"_FILE from "+path; got != want {
				t.Errorf("source %q, want %q", got, want)
			}
			section, name, _ := strings.Cut(key, ".")
			file := write(t, "c.yaml", fmt.Sprintf("%s: {%s: '', %s_file: %q}\n", section, name, name, path))
			c, _ = mustLoad(t, file, environment(company[key]...)...)
			if got := get(c); got != want {
				t.Errorf("from the file: not the file's content but %d bytes", len(got))
			}
		})
	}
}

func TestShowRoundTrip(t *testing.T) {
	names := slices.Sorted(maps.Keys(other))
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(t, "keys")
		c, sources, err := configs.Load("", environment(chosen...))
		if err != nil {
			return // keys that do not go together
		}
		var environ []string
		for _, s := range configs.Show(c, sources) {
			if s.Value == "******" {
				s.Value = other[s.Key]
			}
			environ = append(environ, variable(s.Key)+"="+s.Value)
		}
		again, _, err := configs.Load("", environ)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Error(diff)
		}
	})
}

func TestNothingShowsASecret(t *testing.T) {
	const needle = "n33dle"
	forms := map[string][]string{
		"password":     {"IMGUS_REDIS_PASSWORD=" + needle},
		"keys":         {"IMGUS_STORAGE_ACCESS_KEY=" + needle, "IMGUS_STORAGE_SECRET_KEY=" + needle},
		"url password": {"IMGUS_REDIS_URL=redis://me:" + needle + "@localhost:6379/0"},
		"url token":    {"IMGUS_REDIS_URL=redis://" + needle + "@localhost:6379/0"},
		"url option":   {"IMGUS_REDIS_URL=redis://localhost:6379/0?password=" + needle},
		"fragment":     {"IMGUS_REDIS_URL=redis://localhost:6379/0#" + needle},
		"broken url":   {"IMGUS_REDIS_URL=redis://:" + needle + "\x7f@localhost:x"},
		"wrong scheme": {"IMGUS_REDIS_URL=http://:" + needle + "@localhost"},
		"database":     {"IMGUS_REDIS_URL=redis://localhost/" + needle},
		"opaque":       {"IMGUS_REDIS_URL=redis:" + needle},
		"bare":         {"IMGUS_REDIS_URL=" + needle + "@localhost:6379"},
		"both":         {"IMGUS_REDIS_URL=redis://:" + needle + "@localhost:6379", "IMGUS_REDIS_PASSWORD=" + needle},
	}
	files := map[string]string{
		"list":     "redis: {password: [" + needle + "]}",
		"map":      "redis: {password: {a: " + needle + "}}",
		"anchor":   "redis: {password: *" + needle + "}",
		"tag":      "redis: {password: !!int " + needle + "}",
		"twice":    "redis:\n  password: " + needle + "\n  password: " + needle + "\n",
		"broken":   "redis: {password: '" + needle + "}",
		"unclosed": "redis: {password: \"\\q" + needle + "\"}",
	}
	check := func(t *testing.T, path string, environ []string) {
		t.Helper()
		c, sources, err := configs.Load(path, environ)
		document, jsonErr := json.Marshal(c)
		if jsonErr != nil {
			t.Fatal(jsonErr)
		}
		shown := fmt.Sprintf("%v\n%+v\n%v\n%s\n%#v", err, configs.Show(c, sources), c, document, c.Redis.Password)
		if strings.Contains(shown, needle) {
			t.Errorf("the secret shows in:\n%s", shown)
		}
	}
	for name, environ := range forms {
		t.Run(name, func(t *testing.T) { check(t, "", environ) })
	}
	for name, text := range files {
		t.Run(name, func(t *testing.T) { check(t, write(t, "c.yaml", text), nil) })
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(configs.Reference))
	for _, text := range []string{
		"", "a", "[]", "a: &a {b: *a}", "redis: {url: 1}", "queues: {a: 1, a: 2}", "? [a]\n: b", "log: {level: [x]}", "---\n---\n",
		"redis: &r {url: x}\nstorage: *r", "<<: {a: b}", "engine: {cuda: {a: {}}, memory_budget: 1e400}", "limits: {steps: 0x10}",
		"redis: {password_file: x}", "job: {timeout: 9223372036854775807h}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := t.TempDir() + "/c.yaml"
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, sources, err := configs.Load(path, nil, configs.NeedStorage)
		if shown := configs.Show(c, sources); len(shown) != len(sources) {
			t.Errorf("%d settings, %d sources", len(shown), len(sources))
		}
		if err == nil && (c.Storage.Bucket == "" || c.Storage.SecretKey == "") && c.Storage.Directory == "" {
			t.Error("accepted without a place for the pictures")
		}
	})
}
