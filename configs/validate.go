package configs

import (
	"cmp"
	"crypto/x509"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/queue/seal"
)

// checker holds the rules that values must satisfy one by one and together.
type checker struct {
	sources  Sources
	problems *Problems
}

// wrong reports a key, once: what follows from a first problem would confuse.
func (c checker) wrong(key, message string, args ...any) {
	if !c.problems.has(key) {
		c.problems.add(key, c.sources[key], message, args...)
	}
}

func (c checker) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.wrong(key, "must be %s", strings.Join(allowed, " or "))
	}
}

func within[T cmp.Ordered](c checker, key string, value, low, high T) {
	if value < low || value > high {
		c.wrong(key, "must be from %s to %s", format(low), format(high))
	}
}

func (c Config) validate(sources Sources, problems *Problems, needs []Need) {
	check := checker{sources: sources, problems: problems}
	check.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	check.oneOf("log.format", c.Log.Format, "auto", "text", "json")
	check.redis(c.Redis)
	check.seal(c.Seal)
	check.queues(c.Queues)
	check.storage(c.Storage, slices.Contains(needs, NeedStorage))
	if c.Models.Directory == "" {
		check.wrong("models.directory", "must be set")
	}
	check.engine(c.Engine)
	check.limits(c.Limits)
	within(check, "job.max_attempts", c.Job.MaxAttempts, 1, 100)
	within(check, "job.timeout", c.Job.Timeout, time.Second, 24*time.Hour)
	within(check, "job.shutdown_grace", c.Job.ShutdownGrace, 0, time.Hour)
	within(check, "job.status_ttl", c.Job.StatusTTL, time.Minute, 30*24*time.Hour)
	check.oneOf("record.prompt", c.Record.Prompt, "none", "full")
	if name := c.Mark.System; name == "" || utf8.RuneCountInString(name) > 64 || !printable(name) {
		check.wrong("mark.system", "must be 1 to 64 printable characters")
	}
	check.privacy(c.Privacy, slices.Contains(needs, NeedSubjectKey))
	check.retention(c.Retention)
	check.safety(c.Safety)
	if c.HTTP.Address != "" && !isAddress(c.HTTP.Address) && !strings.HasPrefix(c.HTTP.Address, ":") {
		check.wrong("http.address", "must be host:port, or empty for none")
	}
	if at := c.HTTP.PprofAddress; at != "" && (!isAddress(at) || !isLoopback(at)) {
		check.wrong("http.pprof_address", "must be host:port of the loopback, such as 127.0.0.1:6060, or empty for none")
	}
	check.tracing(c.Tracing)
}

// printable reports whether a text is one line that shows as it is.
func printable(text string) bool {
	return utf8.ValidString(text) && strings.TrimSpace(text) == text && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// minSubjectKey bounds how easily the key could be guessed from a pseudonym.
const minSubjectKey = 32

func (c checker) privacy(p Privacy, needed bool) {
	switch {
	case p.SubjectKey == "" && needed:
		c.wrong("privacy.subject_key", "must be set, as it is for the workers: without it nobody can tell which jobs are a subject's")
	case p.SubjectKey != "" && len(p.SubjectKey) < minSubjectKey:
		c.wrong("privacy.subject_key", "must have at least %d characters, such as openssl rand -hex 32 gives", minSubjectKey)
	}
	if p.ReceiptKey != "" {
		if _, err := privacy.ParsePrivateKey(string(p.ReceiptKey)); err != nil {
			c.wrong("privacy.receipt_key", "%v", err)
		}
	}
}

func (c checker) retention(r Retention) {
	for _, class := range []struct {
		key        string
		value, low time.Duration
	}{{"retention.inputs", r.Inputs, time.Hour}, {"retention.results", r.Results, 24 * time.Hour}, {"retention.failed", r.Failed, 24 * time.Hour}} {
		if class.value != 0 {
			within(c, class.key, class.value, class.low, 100*365*24*time.Hour)
		}
	}
}

func (c checker) tracing(t Tracing) {
	within(c, "tracing.sample", t.Sample, 0, 1)
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !isPort(u.Port(), true) ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "":
		c.wrong("tracing.endpoint", "must be http://host:port or https://host:port, with or without a path")
	case u.Scheme == "http" && !isLoopback(u.Host) && !t.AllowPlaintext:
		c.wrong("tracing.endpoint", needsPlaintext, "tracing.allow_plaintext")
	}
}

const needsPlaintext = "is not this machine and has no TLS: encrypt it, or accept that with %s: true"

func (c checker) redis(r Redis) {
	url, ok := parseRedisURL(string(r.URL))
	if !ok {
		c.wrong("redis.url", redisURLForm)
	}
	if url.password && r.Password != "" {
		c.wrong("redis.password", "redis.url holds a password too: choose one")
	}
	if url.username != "" && r.Username != "" {
		c.wrong("redis.username", "redis.url names a user too: choose one")
	}
	c.addresses("redis.sentinel.addresses", r.Sentinel.Addresses)
	c.addresses("redis.cluster.addresses", r.Cluster.Addresses)
	sentinel, cluster := r.Sentinel.Master != "" || len(r.Sentinel.Addresses) > 0, len(r.Cluster.Addresses) > 0
	if sentinel && r.Sentinel.Master == "" {
		c.wrong("redis.sentinel.master", "must be set: redis.sentinel.addresses is")
	}
	if sentinel && len(r.Sentinel.Addresses) == 0 {
		c.wrong("redis.sentinel.addresses", "must be set: redis.sentinel.master is")
	}
	if sentinel && cluster {
		c.wrong("redis.cluster.addresses", "redis.sentinel is set too: choose one")
	}
	if (sentinel || cluster) && r.URL != defaultRedisURL {
		c.wrong("redis.url", "redis.sentinel or redis.cluster is set too: choose one")
	}

	encrypted := r.TLS.Enabled
	inUse := map[string][]string{"redis.sentinel.addresses": r.Sentinel.Addresses, "redis.cluster.addresses": r.Cluster.Addresses}
	if !sentinel && !cluster && url.scheme != "unix" {
		encrypted = encrypted || url.scheme == "rediss"
		inUse["redis.url"] = []string{url.host}
	}
	for _, key := range slices.Sorted(maps.Keys(inUse)) {
		remote := slices.ContainsFunc(inUse[key], func(address string) bool { return !isLoopback(address) })
		if remote && !encrypted && !r.AllowPlaintext {
			c.wrong(key, needsPlaintext, "redis.allow_plaintext")
		}
	}
	if r.TLS.CAFile != "" && !encrypted {
		c.wrong("redis.tls.ca_file", "is of no use without redis.tls.enabled")
	}
	c.certificates("redis.tls.ca_file", r.TLS.CAFile)
}

func (c checker) seal(s Seal) {
	// Other files of the folder are no reason not to start: worker doctor and the log tell of them.
	keys, _, err := seal.Keys{Directory: s.Directory}.List()
	switch {
	case s.Directory == "" && s.Required:
		c.wrong("seal.directory", "must be set: seal.required is")
	case s.Directory == "" && s.Key != "":
		c.wrong("seal.directory", "must be set: seal.key is")
	case err != nil:
		c.wrong("seal.directory", "%v", err)
	case s.Required && len(keys) == 0:
		c.wrong("seal.directory", "must have a key in it: seal.required is set (openssl rand -base64 32)")
	case s.Key != "" && !slices.ContainsFunc(keys, func(k seal.Key) bool { return k.ID == s.Key }):
		c.wrong("seal.key", "must be the name of a file in seal.directory, which holds 32 bytes in base64")
	}
}

func (c checker) addresses(key string, list []string) {
	for _, address := range list {
		if !isAddress(address) {
			c.wrong(key, "each must be host:port")
		}
	}
}

var (
	queueName  = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*/?$`)
	deviceName = regexp.MustCompile(`^(cpu|cuda:(0|[1-9]\d?))$`)
	modelName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	warmUp     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(@[0-9]{2,4}x[0-9]{2,4}(x[1-8])?)?$`)
	optionName = regexp.MustCompile(`^[a-z0-9_]+$`)
)

// maxPriority bounds a priority: the queue library keeps one entry for each.
const maxPriority = 100

func (c checker) queues(queues map[string]int) {
	if len(queues) == 0 {
		c.wrong("queues", "must name one queue at least")
	}
	for _, name := range slices.Sorted(maps.Keys(queues)) {
		if !queueName.MatchString(name) {
			c.wrong("queues", "a name must be 1 to 64 of a-z, 0-9, _ and -")
		}
		if priority := queues[name]; priority < 1 || priority > maxPriority {
			c.wrong("queues", "a priority must be from 1 to %d", maxPriority)
		}
	}
}

func (c checker) storage(s Storage, needed bool) {
	c.oneOf("storage.kind", s.Kind, "s3", "directory")
	if s.Prefix != "" && (!prefixForm.MatchString(s.Prefix) || slices.ContainsFunc(strings.Split(s.Prefix, "/"), isDots)) {
		c.wrong("storage.prefix", "must be folders such as a/b, without a slash in front")
	}
	if s.Kind == "directory" {
		if needed && s.Directory == "" {
			c.wrong("storage.directory", "must be set: storage.kind is directory")
		}
		return
	}
	required := []struct{ key, value string }{
		{"storage.endpoint", s.Endpoint}, {"storage.bucket", s.Bucket},
		{"storage.access_key", string(s.AccessKey)}, {"storage.secret_key", string(s.SecretKey)},
	}
	for _, r := range required {
		if needed && r.value == "" {
			c.wrong(r.key, "must be set: storage.kind is s3")
		}
	}
	if s.Bucket != "" && !bucketName.MatchString(s.Bucket) {
		c.wrong("storage.bucket", "must be 3 to 63 of a-z, 0-9, . and -")
	}
	if strings.Contains(s.Endpoint, "://") {
		c.wrong("storage.endpoint", "must be host or host:port, without http:// or https://: storage.tls decides")
	} else if s.Endpoint != "" && !isEndpoint(s.Endpoint) {
		c.wrong("storage.endpoint", "must be host or host:port")
	}
	if s.AccessKey == "" && s.SecretKey != "" {
		c.wrong("storage.access_key", "must be set: storage.secret_key is")
	}
	if s.SecretKey == "" && s.AccessKey != "" {
		c.wrong("storage.secret_key", "must be set: storage.access_key is")
	}
	if !s.TLS && !s.AllowPlaintext && s.Endpoint != "" && !isLoopback(s.Endpoint) {
		c.wrong("storage.endpoint", needsPlaintext, "storage.allow_plaintext")
	}
	if s.CAFile != "" && !s.TLS {
		c.wrong("storage.ca_file", "is of no use without storage.tls")
	}
	c.certificates("storage.ca_file", s.CAFile)
}

func isDots(folder string) bool { return folder == "." || folder == ".." }

func (c checker) engine(e Engine) {
	for _, device := range e.Devices {
		if !e.Devices.Auto() && !deviceName.MatchString(device) {
			c.wrong("engine.devices", "must be auto, or some of cpu, cuda:0, cuda:1, …")
		}
	}
	if len(e.Devices) == 0 {
		c.wrong("engine.devices", "must be auto, or name one device at least")
	}
	c.unique("engine.devices", e.Devices)
	within(c, "engine.memory_budget", e.MemoryBudget, 0, 1<<50)
	within(c, "engine.threads", e.Threads, 0, 1024)
	within(c, "engine.start_timeout", e.StartTimeout, time.Second, time.Hour)
	within(c, "engine.load_timeout", e.LoadTimeout, time.Second, 24*time.Hour)
	within(c, "engine.stall_timeout", e.StallTimeout, time.Second, 24*time.Hour)
	within(c, "engine.cancel_grace", e.CancelGrace, 100*time.Millisecond, time.Minute)
	within(c, "engine.recycle_above", e.RecycleAbove, 0, 1<<50)
	within(c, "engine.bad_after", e.BadAfter, 1, 1000)
	for _, entry := range e.WarmUp {
		if !warmUp.MatchString(entry) {
			c.wrong("engine.warm_up", "must be names of models, or name@512x512, or name@512x512x4")
		}
	}
	c.unique("engine.warm_up", e.WarmUp)
	for _, name := range e.Pin {
		if !modelName.MatchString(name) {
			c.wrong("engine.pin", "must be names of models")
		}
	}
	c.unique("engine.pin", e.Pin)
	for _, name := range slices.Sorted(maps.Keys(e.CUDA)) {
		switch {
		case !optionName.MatchString(name):
			c.wrong("engine.cuda", "an option's name must be of a-z, 0-9 and _")
		case name == "device_id":
			c.wrong("engine.cuda", "device_id is set by engine.devices")
		case e.CUDA[name] == "":
			c.wrong("engine.cuda", "%s must have a value", name)
		}
	}
}

func (c checker) unique(key string, list []string) {
	if len(slices.Compact(slices.Sorted(slices.Values(list)))) < len(list) {
		c.wrong(key, "holds a name twice")
	}
}

func (c checker) limits(l Limits) {
	hard := job.HardLimits()
	within(c, "limits.steps", l.Steps, 1, hard.Steps)
	within(c, "limits.images", l.Images, 1, hard.Images)
	within(c, "limits.width", l.Width, job.MinSide, hard.Width)
	within(c, "limits.height", l.Height, job.MinSide, hard.Height)
	within(c, "limits.pixels", l.Pixels, job.MinSide*job.MinSide, int(hard.Pixels))
	within(c, "limits.prompt_length", l.PromptLength, 1, hard.Prompt)
	within(c, "limits.input_bytes", l.InputBytes, 1, Size(hard.InputBytes))
	within(c, "limits.input_pixels", l.InputPixels, 1, int(hard.InputPixels))
	within(c, "limits.input_side", l.InputSide, 1, hard.InputSide)
}

func (c checker) safety(s Safety) {
	on := func(policy string) bool { return policy == "flag" || policy == "block" }
	for _, check := range []struct{ key, policy, needs, value string }{
		{"safety.prompt.policy", s.Prompt.Policy, "safety.prompt.list", s.Prompt.List},
		{"safety.image.input", s.Image.Input, "safety.image.model", s.Image.Model},
		{"safety.image.output", s.Image.Output, "safety.image.model", s.Image.Model},
	} {
		c.oneOf(check.key, check.policy, "off", "flag", "block")
		if on(check.policy) && check.value == "" {
			c.wrong(check.needs, "must be set: %s is %s", check.key, check.policy)
		}
	}
}

// certificates checks a file of certificate authorities, if one is named.
func (c checker) certificates(key, path string) {
	if path == "" {
		return
	}
	pem, err := readBounded(path)
	if err != nil {
		c.wrong(key, "%v", err)
	} else if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		c.wrong(key, "the file holds no certificate in PEM form")
	}
}
