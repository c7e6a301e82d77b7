package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/imgus/worker/internal/testservices"
)

// onlyServices makes everything but Redis, storage and http wrong or absent, to
// be quick.
func onlyServices(t *testing.T) []string {
	t.Helper()
	return []string{
		"IMGUS_STORAGE_KIND=directory", "IMGUS_STORAGE_DIRECTORY=" + t.TempDir(), "IMGUS_MODELS_DIRECTORY=" + t.TempDir(),
		"IMGUS_HTTP_ADDRESS=", "IMGUS_ENGINE_LIBRARY=/nowhere",
	}
}

func diagnose(t *testing.T, environ ...string) []finding {
	t.Helper()
	_, stdout, _ := newProgram(t, slices.Concat(onlyServices(t), environ)...).run("", "doctor", "--json")
	return lines[finding](t, stdout)
}

// A Redis with which a worker does nothing is a failure, and what to do is said
// of the fault that it is.
func TestDoctorOfRedis(t *testing.T) {
	t.Parallel()
	fit := testservices.StartRedis(t, testservices.RedisOptions{Persist: true})
	locked := testservices.StartRedis(t, testservices.RedisOptions{Password: "secret"})
	full := testservices.StartRedis(t, testservices.RedisOptions{Args: []string{"--maxmemory", "1"}})
	replica := testservices.StartRedis(t, testservices.RedisOptions{Args: strings.Fields("--replicaof 127.0.0.1 1")})
	secure, ca := testservices.TLS(t, fit.Addr)
	late := miniredis.RunT(t)
	late.SetTime(time.Now().Add(time.Hour))
	for name, tt := range map[string]struct {
		environ []string
		check   string
		says    string
		remedy  string
	}{
		"full":              {[]string{"IMGUS_REDIS_URL=" + full.Addr}, "redis", "OOM", "maxmemory"},
		"replica":           {[]string{"IMGUS_REDIS_URL=" + replica.Addr}, "redis", "replica", "docs/operations.md"},
		"no password":       {[]string{"IMGUS_REDIS_URL=" + locked.Addr}, "redis", "NOAUTH", "set redis.username"},
		"wrong password":    {[]string{"IMGUS_REDIS_URL=" + locked.Addr, "IMGUS_REDIS_PASSWORD=no"}, "redis", "WRONGPASS", "mend redis.username"},
		"TLS to plain":      {[]string{"IMGUS_REDIS_URL=rediss://" + fit.Addr}, "redis", "", "speaks no TLS"},
		"plain to TLS":      {[]string{"IMGUS_REDIS_URL=redis://" + secure}, "redis", "EOF", "expects TLS"},
		"unknown authority": {[]string{"IMGUS_REDIS_URL=rediss://" + secure}, "redis", "x509", "redis.tls.ca_file"},
		"away":              {[]string{"IMGUS_REDIS_URL=redis://127.0.0.1:1"}, "redis", "refused", "nobody listens"},
		"clock":             {[]string{"IMGUS_REDIS_URL=" + late.Addr()}, "clock", "behind", "chronyc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := diagnose(t, tt.environ...)
			wrong := slices.DeleteFunc(found, func(f finding) bool { return f.Verdict != bad || f.Check != "redis" && f.Check != "clock" })
			if len(wrong) != 1 || wrong[0].Check != tt.check || !strings.Contains(wrong[0].Detail, tt.says) || !strings.Contains(wrong[0].Remedy, tt.remedy) {
				t.Errorf("found %+v", wrong)
			}
		})
	}
	for _, f := range diagnose(t, "IMGUS_REDIS_URL=rediss://"+secure, "IMGUS_REDIS_TLS_CA_FILE="+ca) {
		if (f.Check == "redis" || f.Check == "clock") && f.Verdict != good {
			t.Errorf("of a Redis that fits: %+v", f)
		}
	}
}

func TestDoctorOfStorage(t *testing.T) {
	t.Parallel()
	server := testservices.StartS3With(t, testservices.S3Options{Users: true})
	secure, _ := testservices.TLS(t, server.Endpoint)
	owner, err := minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	policy := string(readFile(t, deploy, "s3/bucket-policy.json"))
	forbid := func(bucket, user, right string) []string {
		t.Helper()
		server.AddUser(t, user, "secret")
		if err := owner.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(`"`+right+`", `, "", `, "`+right+`"`, "", ":::imgus", ":::"+bucket, `"worker"`, `"`+user+`"`).Replace(policy)
		if err := owner.SetBucketPolicy(t.Context(), bucket, text); err != nil {
			t.Fatal(err)
		}
		return []string{"IMGUS_STORAGE_BUCKET=" + bucket, "IMGUS_STORAGE_ACCESS_KEY=" + user, "IMGUS_STORAGE_SECRET_KEY=secret"}
	}
	redis := testservices.Redis(t)
	for name, tt := range map[string]struct {
		environ []string
		verdict verdict
		says    string
		remedy  string
	}{
		"well":              {nil, good, "can be listed", ""},
		"no bucket":         {[]string{"IMGUS_STORAGE_BUCKET=elsewhere"}, bad, "NoSuchBucket", "storage.bucket"},
		"unknown key":       {[]string{"IMGUS_STORAGE_ACCESS_KEY=unknown"}, bad, "InvalidAccessKeyId", "storage.access_key"},
		"wrong secret":      {[]string{"IMGUS_STORAGE_SECRET_KEY=wrong"}, bad, "SignatureDoesNotMatch", "storage.secret_key"},
		"may not write":     {forbid("unwritten", "reader", "s3:PutObject"), bad, "s3:PutObject", "bucket-policy.json"},
		"may not list":      {forbid("unlisted", "blind", "s3:ListBucket"), bad, "s3:ListBucket", "bucket-policy.json"},
		"sees no uploads":   {forbid("unseen", "dim", "s3:ListBucketMultipartUploads"), warning, "s3:ListBucketMultipartUploads", "bucket-policy.json"},
		"TLS to plain":      {[]string{"IMGUS_STORAGE_TLS=true"}, bad, "HTTP response", "storage.tls"},
		"plain to TLS":      {[]string{"IMGUS_STORAGE_ENDPOINT=" + secure}, bad, "Connection closed", "storage.tls"},
		"unknown authority": {[]string{"IMGUS_STORAGE_ENDPOINT=" + secure, "IMGUS_STORAGE_TLS=true"}, bad, "x509", "storage.ca_file"},
		"away":              {[]string{"IMGUS_STORAGE_ENDPOINT=127.0.0.1:1"}, bad, "refused", "nobody listens"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := diagnose(t, append([]string{
				"IMGUS_REDIS_URL=" + redis, "IMGUS_STORAGE_KIND=s3", "IMGUS_STORAGE_ENDPOINT=" + server.Endpoint, "IMGUS_STORAGE_BUCKET=" + server.Bucket,
				"IMGUS_STORAGE_TLS=false", "IMGUS_STORAGE_ACCESS_KEY=" + server.AccessKey, "IMGUS_STORAGE_SECRET_KEY=" + server.SecretKey,
			}, tt.environ...)...)
			found = slices.DeleteFunc(found, func(f finding) bool { return f.Check != "storage" })
			if !slices.ContainsFunc(found, func(f finding) bool {
				return f.Verdict == tt.verdict && strings.Contains(f.Detail, tt.says) && strings.Contains(f.Remedy, tt.remedy)
			}) {
				t.Errorf("found %+v", found)
			}
		})
	}
}

// The address of metrics is taken by a worker, or by a program because of which
// none would start.
func TestDoctorOfAddress(t *testing.T) {
	t.Parallel()
	redis := "IMGUS_REDIS_URL=" + testservices.Redis(t)
	serving := func(handler http.HandlerFunc) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for address, want := range map[string]verdict{
		serving(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"ready":false,"checks":{"redis":"away"}}`))
		}): good,
		serving(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) }): bad,
		silent.Addr().String(): bad,
		"192.0.2.1:1":          bad,
	} {
		found := diagnose(t, redis, "IMGUS_HTTP_ADDRESS="+address)
		if got := verdicts(found, "http"); !slices.Equal(got, []verdict{want}) {
			t.Errorf("%s: %v", address, found)
		}
	}
}
