package configs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/imgus/worker/configs"
)

// problemsOf loads a file and an environment and returns what is wrong.
func problemsOf(t *testing.T, text string, environ []string, needs ...configs.Need) []configs.Problem {
	t.Helper()
	_, _, err := configs.Load(write(t, "c.yaml", text), environ, needs...)
	if err == nil {
		return nil
	}
	var problems *configs.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("load: %v is no *Problems", err)
	}
	return problems.List
}

func TestProblems(t *testing.T) {
	secret := write(t, "secret", "x")
	empty := write(t, "empty", "\n")
	tests := map[string]struct {
		file    string
		environ []string
		key     string // of the one problem expected
		message string // part of it
	}{
		"not YAML":              {file: "log: {level: info", key: "config", message: "is not YAML: line"},
		"not a mapping":         {file: "- a", key: "config", message: "must be a section with the keys log, redis,"},
		"two documents":         {file: "log: {}\n---\nlog: {}\n", key: "config", message: "single YAML document"},
		"unknown section":       {file: "logs: {}", key: "logs", message: "unknown key; here may stand log, redis,"},
		"unknown key":           {file: "job: {max_tries: 3}", key: "job.max_tries", message: "here may stand max_attempts, timeout,"},
		"unknown empty section": {file: "redis: {tls: {key: {}}}", key: "redis.tls.key", message: "here may stand enabled, ca_file"},
		"dotted key":            {file: "log.level: info", key: "config", message: "plain word"},
		"capitals":              {file: "Log: {level: info}", key: "Log", message: "unknown key"},
		"merge key":             {file: "log: {<<: {level: info}}", key: "log.<<", message: "unknown key"},
		"key twice":             {file: "log: {}\nlog: {}\n", key: "log", message: "given twice"},
		"no plain key":          {file: "log: {[a]: b}", key: "log", message: "plain word"},
		"section as a value":    {file: "redis: localhost", key: "redis", message: "must be a section"},
		"unknown variable":      {environ: []string{"IMGUS_REDIS_ULR=x"}, key: "IMGUS_REDIS_ULR", message: "unknown variable"},
		"service variable":      {environ: []string{"IMGUS_REDIS_SERVICE_HOST=x"}, key: "IMGUS_REDIS_SERVICE_HOST", message: "enableServiceLinks"},
		"file of no secret":     {environ: []string{"IMGUS_LOG_LEVEL_FILE=x"}, key: "IMGUS_LOG_LEVEL_FILE", message: "unknown variable"},
		"file key of no secret": {file: "log: {level_file: x}", key: "log.level_file", message: "unknown key"},

		"text for a number":     {file: "job: {max_attempts: many}", key: "job.max_attempts", message: "whole number"},
		"quoted number":         {file: "job: {max_attempts: '3'}", key: "job.max_attempts", message: "whole number"},
		"fraction":              {file: "job: {max_attempts: 2.5}", key: "job.max_attempts", message: "whole number"},
		"number for text":       {file: "storage: {region: 5}", key: "storage.region", message: "in quotes"},
		"number for a flag":     {file: "engine: {isolate: 1}", key: "engine.isolate", message: "true or false"},
		"list for a value":      {file: "log: {level: [info]}", key: "log.level", message: "single value"},
		"mapping for a list":    {file: "engine: {warm_up: {a: b}}", key: "engine.warm_up", message: "must be a list"},
		"list of lists":         {file: "engine: {warm_up: [[a]]}", key: "engine.warm_up", message: "single values"},
		"list for a mapping":    {file: "queues: [a]", key: "queues", message: "mapping"},
		"text in a mapping":     {file: "queues: {a: b}", key: "queues", message: "each value must be a whole number"},
		"nested mapping":        {file: "engine: {cuda: {a: {b: c}}}", key: "engine.cuda", message: "single values"},
		"name twice":            {file: "queues: {a: 1, a: 2}", key: "queues", message: "twice"},
		"bare duration":         {file: "job: {timeout: 600}", key: "job.timeout", message: "duration such as"},
		"wrong size":            {file: "engine: {memory_budget: 8 gigs}", key: "engine.memory_budget", message: "size such as"},
		"variable's number":     {environ: []string{"IMGUS_JOB_MAX_ATTEMPTS="}, key: "job.max_attempts", message: "whole number"},
		"variable's flag":       {environ: []string{"IMGUS_ENGINE_ISOLATE=yes"}, key: "engine.isolate", message: "true or false"},
		"variable's map":        {environ: []string{"IMGUS_QUEUES=interactive"}, key: "queues", message: "a=1,b=2"},
		"variable's map number": {environ: []string{"IMGUS_QUEUES=interactive=x"}, key: "queues", message: "whole number"},
		"variable's map twice":  {environ: []string{"IMGUS_QUEUES=a=1,a=2"}, key: "queues", message: "twice"},

		"secret file is away":  {environ: []string{"IMGUS_REDIS_PASSWORD_FILE=/nonexistent"}, key: "IMGUS_REDIS_PASSWORD_FILE", message: "no such file"},
		"secret file is empty": {environ: []string{"IMGUS_REDIS_PASSWORD_FILE=" + empty}, key: "IMGUS_REDIS_PASSWORD_FILE", message: "empty"},
		"secret file is a folder": {
			file: "redis: {password_file: /}", key: "redis.password_file", message: "regular file",
		},
		"secret file is a list": {file: "redis: {password_file: [a]}", key: "redis.password_file", message: "path of a file"},
		"secret twice": {
			environ: []string{"IMGUS_REDIS_PASSWORD=a", "IMGUS_REDIS_PASSWORD_FILE=" + secret},
			key:     "redis.password", message: "given directly and as IMGUS_REDIS_PASSWORD_FILE",
		},

		"log level":           {file: "log: {level: loud}", key: "log.level", message: "must be debug or info"},
		"log format":          {file: "log: {format: xml}", key: "log.format", message: "must be auto or"},
		"attempts":            {file: "job: {max_attempts: 0}", key: "job.max_attempts", message: "from 1 to 100"},
		"timeout":             {file: "job: {timeout: 25h}", key: "job.timeout", message: "from 1s to 24h"},
		"grace":               {file: "job: {shutdown_grace: -1s}", key: "job.shutdown_grace", message: "from 0s to 1h"},
		"status":              {file: "job: {status_ttl: 1s}", key: "job.status_ttl", message: "from 1m to 720h"},
		"mark":                {file: "mark: {system: \"two\\nlines\"}", key: "mark.system", message: "printable"},
		"safety policy":       {file: "safety: {prompt: {policy: refuse}}", key: "safety.prompt.policy", message: "must be off or flag or block"},
		"safety list":         {file: "safety: {prompt: {policy: flag}}", key: "safety.prompt.list", message: "must be set"},
		"picture policy":      {file: "safety: {image: {output: 'on'}}", key: "safety.image.output", message: "must be off or flag or block"},
		"safety classifier":   {file: "safety: {image: {input: block}}", key: "safety.image.model", message: "must be set: safety.image.input is block"},
		"record":              {file: "record: {prompt: some}", key: "record.prompt", message: "none or full"},
		"keys required":       {file: "seal: {required: true}", key: "seal.directory", message: "must be set: seal.required is"},
		"key without keys":    {file: "seal: {key: a}", key: "seal.directory", message: "must be set: seal.key is"},
		"no folder of keys":   {file: "seal: {directory: /nowhere}", key: "seal.directory", message: "no such file"},
		"folder without keys": {file: "seal: {directory: testdata/no-keys, required: true}", key: "seal.directory", message: "must have a key"},
		"file that is no key": {file: "seal: {directory: testdata, key: ca.pem}", key: "seal.key", message: "32 bytes in base64"},
		"key that is absent":  {file: "seal: {directory: testdata/keys, key: a}", key: "seal.key", message: "name of a file"},
		"subject key":         {file: "privacy: {subject_key: short}", key: "privacy.subject_key", message: "at least 32 characters"},
		"receipt key":         {file: "privacy: {receipt_key: nonsense}", key: "privacy.receipt_key", message: "Ed25519"},
		"inputs kept":         {file: "retention: {inputs: 1m}", key: "retention.inputs", message: "from 1h"},
		"results kept":        {file: "retention: {results: 1h}", key: "retention.results", message: "from 24h"},
		"failures kept":       {file: "retention: {failed: -1h}", key: "retention.failed", message: "from 24h"},
		"http address":        {file: "http: {address: here}", key: "http.address", message: "host:port"},
		"pprof for all":       {file: "http: {pprof_address: ':6060'}", key: "http.pprof_address", message: "loopback"},
		"pprof elsewhere":     {file: "http: {pprof_address: '10.0.0.1:6060'}", key: "http.pprof_address", message: "loopback"},
		"tracing endpoint":    {file: "tracing: {endpoint: 'collector:4318'}", key: "tracing.endpoint", message: "http://host:port"},
		"tracing password":    {file: "tracing: {endpoint: 'https://a:b@collector'}", key: "tracing.endpoint", message: "http://host:port"},
		"tracing in plain":    {file: "tracing: {endpoint: 'http://collector:4318'}", key: "tracing.endpoint", message: "tracing.allow_plaintext"},
		"tracing sample":      {file: "tracing: {sample: 1.5}", key: "tracing.sample", message: "from 0 to 1"},
		"tracing sample type": {file: "tracing: {sample: half}", key: "tracing.sample", message: "must be a number"},
		"models":              {file: "models: {directory: ''}", key: "models.directory", message: "must be set"},
		"no queue":            {file: "queues: {}", key: "queues", message: "one queue at least"},
		"queue name":          {file: "queues: {Interactive: 1}", key: "queues", message: "a-z"},
		"dotted queue name":   {file: "queues: {batch.low: 1}", key: "queues", message: "a-z"},
		"priority":            {file: "queues: {batch: 0}", key: "queues", message: "from 1 to 100"},
		"device":              {file: "engine: {devices: [gpu]}", key: "engine.devices", message: "cuda:0"},
		"auto among devices":  {file: "engine: {devices: [auto, cpu]}", key: "engine.devices", message: "must be auto, or"},
		"no device":           {file: "engine: {devices: []}", key: "engine.devices", message: "one device at least"},
		"device twice":        {file: "engine: {devices: [cpu, cpu]}", key: "engine.devices", message: "twice"},
		"threads":             {file: "engine: {threads: -1}", key: "engine.threads", message: "from 0 to 1024"},
		"start timeout":       {file: "engine: {start_timeout: 0s}", key: "engine.start_timeout", message: "from 1s to 1h"},
		"load timeout":        {file: "engine: {load_timeout: 25h}", key: "engine.load_timeout", message: "from 1s to 24h"},
		"stall timeout":       {file: "engine: {stall_timeout: 0s}", key: "engine.stall_timeout", message: "from 1s to 24h"},
		"cancel grace":        {file: "engine: {cancel_grace: 2m}", key: "engine.cancel_grace", message: "from 100ms to 1m"},
		"recycling":           {file: "engine: {recycle_above: 2000TiB}", key: "engine.recycle_above", message: "from 0"},
		"bad after":           {file: "engine: {bad_after: 0}", key: "engine.bad_after", message: "from 1 to 1000"},
		"warm-up size":        {file: "engine: {warm_up: [a@big]}", key: "engine.warm_up", message: "name@512x512"},
		"pin":                 {file: "engine: {pin: [../b]}", key: "engine.pin", message: "names of models"},
		"warm-up":             {file: "engine: {warm_up: [../a]}", key: "engine.warm_up", message: "names of models"},
		"cuda option":         {file: "engine: {cuda: {Use_TF32: 0}}", key: "engine.cuda", message: "a-z"},
		"cuda device":         {file: "engine: {cuda: {device_id: 1}}", key: "engine.cuda", message: "engine.devices"},
		"cuda without value":  {file: "engine: {cuda: {use_tf32: }}", key: "engine.cuda", message: "use_tf32 must have a value"},
		"limit widened":       {file: "limits: {steps: 151}", key: "limits.steps", message: "from 1 to 150"},
		"limit of nothing":    {file: "limits: {width: 0}", key: "limits.width", message: "from 64 to 2048"},
		"limit in bytes":      {file: "limits: {input_bytes: 1GiB}", key: "limits.input_bytes", message: "to 20MiB"},
		"redis scheme":        {file: "redis: {url: 'http://localhost'}", key: "redis.url", message: "must be redis://"},
		"redis database":      {file: "redis: {url: 'redis://localhost/a'}", key: "redis.url", message: "must be redis://"},
		"redis option":        {file: "redis: {url: 'redis://localhost/0?db=1'}", key: "redis.url", message: "must be redis://"},
		"redis plaintext":     {file: "redis: {url: 'redis://redis:6379'}", key: "redis.url", message: "redis.allow_plaintext: true"},
		"cluster plaintext":   {file: "redis: {cluster: {addresses: ['redis:1']}}", key: "redis.cluster.addresses", message: "allow_plaintext"},
		"two passwords":       {file: "redis: {url: 'redis://:a@localhost', password: b}", key: "redis.password", message: "choose one"},
		"two users":           {file: "redis: {url: 'redis://a@localhost', username: b}", key: "redis.username", message: "choose one"},
		"sentinel, no master": {file: "redis: {sentinel: {addresses: ['localhost:1']}}", key: "redis.sentinel.master", message: "must be set"},
		"sentinel, alone":     {file: "redis: {sentinel: {master: a}}", key: "redis.sentinel.addresses", message: "must be set"},
		"sentinel's address":  {file: "redis: {sentinel: {master: a, addresses: [localhost]}}", key: "redis.sentinel.addresses", message: "host:port"},
		"sentinel and cluster": {
			file: "redis: {sentinel: {master: a, addresses: ['[::1]:1']}, cluster: {addresses: ['[::1]:1']}}",
			key:  "redis.cluster.addresses", message: "choose one",
		},
		"cluster and URL": {
			file: "redis: {url: 'redis://localhost:1', cluster: {addresses: ['[::1]:1']}}", key: "redis.url", message: "choose one",
		},
		"redis CA without TLS": {file: "redis: {tls: {ca_file: /a}}", key: "redis.tls.ca_file", message: "no use"},
		"redis CA is empty":    {file: "redis: {tls: {enabled: true, ca_file: worker.yaml}}", key: "redis.tls.ca_file", message: "no certificate"},
		"redis CA is away":     {file: "redis: {tls: {enabled: true, ca_file: /nonexistent}}", key: "redis.tls.ca_file", message: "no such file"},

		"storage kind":        {file: "storage: {kind: gcs}", key: "storage.kind", message: "s3 or directory"},
		"endpoint with http":  {file: "storage: {endpoint: 'https://s3'}", key: "storage.endpoint", message: "storage.tls decides"},
		"endpoint with path":  {file: "storage: {endpoint: 's3/bucket'}", key: "storage.endpoint", message: "host or host:port"},
		"storage plaintext":   {file: "storage: {endpoint: 's3:9000', tls: false}", key: "storage.endpoint", message: "storage.allow_plaintext: true"},
		"bucket":              {file: "storage: {bucket: My_Bucket}", key: "storage.bucket", message: "a-z"},
		"prefix":              {file: "storage: {prefix: /a}", key: "storage.prefix", message: "without a slash in front"},
		"prefix upwards":      {file: "storage: {prefix: a/../b}", key: "storage.prefix", message: "folders"},
		"half of credentials": {file: "storage: {access_key: a}", key: "storage.secret_key", message: "storage.access_key is"},
		"other half":          {file: "storage: {secret_key: a}", key: "storage.access_key", message: "storage.secret_key is"},
		"storage CA, no TLS":  {file: "storage: {endpoint: localhost, tls: false, ca_file: /a}", key: "storage.ca_file", message: "no use"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, test.file, test.environ)
			if len(got) != 1 || got[0].Key != test.key || !strings.Contains(got[0].Message, test.message) {
				t.Errorf("got %+v, want one problem of %s with %q", got, test.key, test.message)
			}
		})
	}
}

func TestNeedSubjectKey(t *testing.T) {
	_, _, err := configs.Load("", nil, configs.NeedSubjectKey)
	if problems, ok := errors.AsType[*configs.Problems](err); !ok || len(problems.List) != 1 || problems.List[0].Key != "privacy.subject_key" {
		t.Errorf("got %v", err)
	}
}

func TestNeeds(t *testing.T) {
	tests := map[string]struct{ file, keys string }{
		"s3 without anything":           {"", "storage.endpoint storage.bucket storage.access_key storage.secret_key"},
		"s3 without a bucket":           {"storage: {endpoint: s3, access_key: a, secret_key: b}", "storage.bucket"},
		"directory without a directory": {"storage: {kind: directory}", "storage.directory"},
		"s3":                            {"storage: {endpoint: s3, access_key: a, secret_key: b, bucket: pictures}", ""},
		"directory":                     {"storage: {kind: directory, directory: a}", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var names []string
			for _, p := range problemsOf(t, test.file, nil, configs.NeedStorage) {
				names = append(names, p.Key)
			}
			if got := strings.Join(names, " "); got != test.keys {
				t.Errorf("got problems of %q, want %q", got, test.keys)
			}
			if got := problemsOf(t, test.file, nil); got != nil {
				t.Errorf("without the need: %+v", got)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	for _, text := range []string{
		"redis: {url: '127.0.0.5:6379'}", "redis: {url: 'redis://localhost'}", "redis: {url: 'redis://[::1]:1/15'}", "redis: {url: 'unix:///run/redis.sock'}",
		"redis: {url: 'redis://redis:6379', allow_plaintext: true}", "redis: {url: 'redis://redis:6379', tls: {enabled: true}}",
		"redis: {cluster: {addresses: ['redis:1']}, tls: {enabled: true}}",
		"storage: {endpoint: 's3:9000'}", "storage: {endpoint: 's3:9000', tls: false, allow_plaintext: true}", "storage: {endpoint: '[::1]:1', tls: false}",
		"http: {address: ':9464'}", "engine: {devices: cuda:0}", "limits: {}",
	} {
		if got := problemsOf(t, text, nil); got != nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	got := problemsOf(t, "logs: {}\njob: {max_attempts: 0, timeout: soon}\nqueues: {A: 0}\n",
		[]string{"IMGUS_NONSENSE=1", "IMGUS_ENGINE_THREADS=-1", "IMGUS_STORAGE_KIND=directory"}, configs.NeedStorage)
	var names []string
	for _, p := range got {
		names = append(names, p.Key+"@"+p.Source[strings.LastIndexByte(p.Source, '/')+1:])
	}
	want := "logs@c.yaml:1 job.timeout@c.yaml:2 IMGUS_NONSENSE@ queues@c.yaml:3 storage.directory@default " +
		"engine.threads@IMGUS_ENGINE_THREADS job.max_attempts@c.yaml:2"
	if text := strings.Join(names, " "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestMissingFile(t *testing.T) {
	_, _, err := configs.Load("/nonexistent/worker.yaml", nil)
	if err == nil || !strings.Contains(err.Error(), "config: stat /nonexistent/worker.yaml: no such file") {
		t.Errorf("got %v", err)
	}
}
