package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v3"

	"github.com/imgus/worker/configs"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/storage/s3"
)

const deploy = "../../deploy"

// lengthOfList is the script by which KEDA's scaler for Redis asks. Redis counts
// its key as one that is read and written.
const lengthOfList = `
local list_type = redis.call('type', KEYS[1]).ok
local cmds = {zset='zcard', set='scard', list='llen', hash='hlen', none='llen'}
return redis.call(cmds[list_type], KEYS[1])`

// TestLeastRights runs the daemon, a producer and the scaler's question as the
// users of deploy/redis/users.acl, on a bucket with deploy/s3/bucket-policy.json.
// Nothing is denied but what shall be.
func TestLeastRights(t *testing.T) {
	acl := strings.Split(string(readFile(t, deploy, "redis/users.acl")), "\n")
	// As it is, since Redis refuses a file with anything else in it, even a comment.
	acl = slices.DeleteFunc(acl, func(line string) bool { return line == "" || strings.HasPrefix(line, "user default ") })
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: append(acl, "user default on nopass ~* &* +@all")})
	objects := testservices.StartS3With(t, testservices.S3Options{Users: true})
	objects.AddUser(t, "worker", "worker-secret")
	owner, err := minio.New(objects.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(objects.AccessKey, objects.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.SetBucketPolicy(t.Context(), objects.Bucket, string(readFile(t, deploy, "s3/bucket-policy.json"))); err != nil {
		t.Fatal(err)
	}

	s := &station{redis: redis.NewClient(&redis.Options{Addr: server.Addr})}
	defer s.redis.Close()
	if s.bucket, err = s3.Open(s3.Options{Endpoint: objects.Endpoint, Bucket: objects.Bucket, AccessKey: "worker", SecretKey: "worker-secret"}); err != nil {
		t.Fatal(err)
	}
	as := func(user string) *program {
		return newProgram(t, "IMGUS_REDIS_URL="+server.Addr, "IMGUS_REDIS_USERNAME="+user, "IMGUS_REDIS_PASSWORD=change-me-"+user,
			"IMGUS_STORAGE_ENDPOINT="+objects.Endpoint, "IMGUS_STORAGE_BUCKET="+objects.Bucket, "IMGUS_STORAGE_TLS=false",
			"IMGUS_STORAGE_ACCESS_KEY=worker", "IMGUS_STORAGE_SECRET_KEY=worker-secret", "IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_ENGINE_ISOLATE=false",
			rightsEnviron[0], rightsEnviron[1])
	}
	s.program = as("worker")
	if s.client, err = queue.NewClient(queue.ClientOptions{Connection: queue.Connection{URL: server.Addr, Username: "producer", Password: "change-me-producer"}}); err != nil {
		t.Fatal(err)
	}
	defer s.client.Close()
	stop := s.daemon()
	producer := as("producer")
	small := []string{"--model", "sd1", "--prompt", "x", "--steps", "2", "--width", "64", "--height", "64"}
	producer.must(0, append([]string{"enqueue", "--id", "one", "--wait"}, small...)...)
	producer.must(0, append([]string{"enqueue", "--id", "two", "--wait", "--input", filepath.Join(golden, "photo-64x64-0.png")}, small...)...)
	producer.must(0, "status", "two")
	for _, user := range []*program{producer, s.program} {
		_, keyboard, ended := user.onTerminal("top")
		s.following(t)
		if _, err := keyboard.WriteString("q"); err != nil {
			t.Fatal(err)
		}
		if status := <-ended; status != 0 {
			t.Errorf("top ends with %d", status)
		}
	}
	producer.must(0, "enqueue", "--id", "long", "--model", "sd1", "--prompt", "x", "--steps", "150", "--width", "512", "--height", "512")
	producer.must(0, "cancel", "long")
	s.await([]string{"long"})
	for id, state := range map[string]job.State{"one": job.Done, "two": job.Done, "long": job.Cancelled} {
		if r := s.record(id); r.State != state {
			t.Errorf("%s is %s", id, r.State)
		}
	}
	for _, f := range s.findings(0) {
		if f.Check == "storage" && f.Verdict != good {
			t.Errorf("the doctor: %+v", f)
		}
	}
	s.must(0, "sweep", "--dry-run")
	producer.must(0, append([]string{"enqueue", "--id", "three", "--wait", "--subject", aSubject}, small...)...)
	s.must(0, "hold", "--subject", aSubject)
	producer.must(0, append([]string{"enqueue", "--id", "four", "--subject", aSubject}, small...)...)
	s.must(0, "export", "--subject", aSubject, "--output", filepath.Join(t.TempDir(), "copy.tar"))
	s.must(0, "erase", "--subject", aSubject)
	s.must(0, "hold", "--subject", aSubject, "--release")
	stop()
	s.clean("no prompt holds this")

	scaler := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "scaler", Password: "change-me-scaler", DisableIdentity: true})
	defer scaler.Close()
	if err := scaler.Eval(t.Context(), lengthOfList, []string{"asynq:{interactive}:pending"}).Err(); err != nil {
		t.Error("the scaler sees no queue: ", err)
	}
	denials, err := s.redis.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(denials) > 0 {
		t.Errorf("denied: %v, %v", denials, err)
	}
	if err := scaler.HGetAll(t.Context(), "imgus:job:one").Err(); err == nil {
		t.Error("the scaler reads a status")
	}
	if err := scaler.LPush(t.Context(), "asynq:{interactive}:pending", "x").Err(); err == nil {
		t.Error("the scaler writes")
	}
	if err := scaler.Eval(t.Context(), `return redis.call("del", KEYS[1])`, []string{"asynq:queues"}).Err(); err == nil {
		t.Error("the scaler's script deletes")
	}
	if err := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "worker", Password: "change-me-worker"}).Keys(t.Context(), "*").Err(); err == nil {
		t.Error("the worker lists keys")
	}
}

// TestManifests: what the files of deploy/ say of the worker is true of it.
func TestManifests(t *testing.T) {
	kubernetes := filepath.Join(deploy, "kubernetes")
	newProgram(t, secretsBeside(t, filepath.Join(kubernetes, "worker.yaml"))...).must(0, "config", "check")

	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct {
					TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				} `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(readFile(t, kubernetes, "deployment.yaml"), &deployment); err != nil {
		t.Fatal(err)
	}
	defaults := configs.Default()
	for file, seconds := range map[string]string{
		"systemd/imgus-worker.service": `TimeoutStopSec=(\d+)`, "compose.yaml": `stop_grace_period: (\d+)s`,
		"kubernetes/deployment.yaml": `terminationGracePeriodSeconds: (\d+)`,
	} {
		found := regexp.MustCompile(seconds).FindSubmatch(readFile(t, deploy, file))
		if found == nil {
			t.Errorf("%s says nothing of the grace", file)
			continue
		}
		if grace, err := time.ParseDuration(string(found[1]) + "s"); err != nil || grace <= defaults.Job.ShutdownGrace {
			t.Errorf("%s kills after %s, in the middle of the worker's own grace", file, grace)
		}
	}
	// A process can forbid itself the network only by a call that @system-service does not allow.
	if unit := string(readFile(t, deploy, "systemd/imgus-worker.service")); !regexp.MustCompile(`(?m)^SystemCallFilter=@system-service seccomp$`).MatchString(unit) {
		t.Error("under the unit no engine could confine itself")
	}
	if unit := string(readFile(t, deploy, "systemd/imgus-worker.service")); !strings.Contains(unit, fmt.Sprintf("RestartPreventExitStatus=%d %d\n", exitUsage, exitConfig)) {
		t.Error("the unit tries again what stays wrong, or not what may come back")
	}
	scaling := string(readFile(t, kubernetes, "scaling.yaml"))
	if n := strings.Count(scaling, "listName:"); n != len(defaults.Queues) {
		t.Errorf("scaling looks at %d lists", n)
	}
	for name := range defaults.Queues {
		if !strings.Contains(scaling, `"asynq:{`+name+`}:pending"`) {
			t.Errorf("scaling does not look at %s", name)
		}
	}
	for _, file := range []string{"compose.yaml", "systemd/imgus-worker.service", "../Dockerfile"} {
		for _, variable := range regexp.MustCompile(`IMGUS_[A-Z0-9_]+`).FindAllString(string(readFile(t, deploy, file)), -1) {
			if _, stdout, _ := newProgram(t, variable+"=?").run("", "config", "check", "--json"); strings.Contains(stdout, "unknown") {
				t.Errorf("%s: %s", file, stdout)
			}
		}
	}
}

// secretsBeside is the configuration with its secrets where this machine has
// them.
func secretsBeside(t *testing.T, config string) []string {
	t.Helper()
	dir := t.TempDir()
	text := strings.ReplaceAll(string(readFile(t, config)), "/run/secrets/imgus", dir)
	for _, name := range []string{"redis-password", "s3-access-key", "s3-secret-key"} {
		writeFile(t, filepath.Join(dir, name), []byte("secret\n"))
	}
	file := writeFile(t, filepath.Join(dir, "worker.yaml"), []byte(text))
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	return []string{"IMGUS_CONFIG=" + file}
}
