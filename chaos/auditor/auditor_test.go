package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/redis/go-redis/v9"

	"github.com/imgus/worker/internal/testservices"
)

// The SHA-256 of "abc".
const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

// place is a Redis and a bucket in which one job has ended well.
type place struct {
	t       *testing.T
	options options
	redis   *redis.Client
	store   *minio.Client
	bucket  string
}

func newPlace(t *testing.T) *place {
	server := testservices.StartS3(t)
	dir := t.TempDir()
	p := &place{t: t, bucket: server.Bucket, options: options{
		redis:    "redis://" + testservices.StartRedis(t, testservices.RedisOptions{}).Addr,
		store:    fmt.Sprintf("http://%s:%s@%s/%s", server.AccessKey, server.SecretKey, server.Endpoint, server.Bucket),
		expected: filepath.Join(dir, "expected"), journal: filepath.Join(dir, "journal"), scratch: filepath.Join(dir, "scratch"),
		prefix: "some/where", secrets: "a red fox",
	}}
	at, err := redis.ParseURL(p.options.redis)
	if err != nil {
		t.Fatal(err)
	}
	p.redis = redis.NewClient(at)
	t.Cleanup(func() { p.redis.Close() })
	p.store, err = minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.options.scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	p.file(p.options.expected, `{"id":"one","state":"done","images":[{"sha256":"`+abc+`"}]}`)
	p.file(p.options.journal, accepted)
	p.put("results/one/a1-0.png", "abc")
	p.put("results/one/result.json", recordOf(abc))
	p.put("results/one/deleted.json", `{}`)
	p.do("HSET", "imgus:job:one", "state", "done")
	p.do("EXPIRE", "imgus:job:one", 60)
	p.do("SADD", "asynq:queues", "interactive")
	p.do("SET", "asynq:{interactive}:processed", 1)
	p.do("SET", "asynq:{interactive}:processed:2026-01-02", 1)
	return p
}

const accepted = `{"method":"PUT","path":"/imgus/some/where/results/one/result.json","status":412}
{"method":"PUT","path":"/imgus/some/where/results/one/result.json","status":200}
{"method":"GET","path":"/imgus/some/where/results/one/result.json","status":200}
`

func recordOf(digest string) string {
	return `{"id":"one","state":"done","attempt":{"id":"a1"},"images":[{"key":"results/one/a1-0.png","bytes":3,"sha256":"` + digest + `"}]}`
}

func (p *place) file(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) put(key, content string) {
	p.t.Helper()
	_, err := p.store.PutObject(p.t.Context(), p.bucket, p.options.prefix+"/"+key, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) remove(key string) {
	p.t.Helper()
	if err := p.store.RemoveObject(p.t.Context(), p.bucket, p.options.prefix+"/"+key, minio.RemoveObjectOptions{}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) do(args ...any) {
	p.t.Helper()
	if err := p.redis.Do(p.t.Context(), args...).Err(); err != nil {
		p.t.Fatal(err)
	}
}

// TestFindings: everything that can be wrong is found, each under its name, and
// nothing is found where all is well.
func TestFindings(t *testing.T) {
	tests := []struct {
		name string
		harm func(*place)
		want map[string]int64
	}{
		{"nothing", func(*place) {}, nil},
		{"no record", func(p *place) { p.remove("results/one/result.json") }, map[string]int64{lost: 1, unreferenced: 2, stale: 1}},
		{"no image", func(p *place) { p.remove("results/one/a1-0.png") }, map[string]int64{lost: 1}},
		{"silent deletion", func(p *place) { p.remove("results/one/deleted.json") }, map[string]int64{lost: 1}},
		{"unreadable record", func(p *place) { p.put("results/one/result.json", "{") }, map[string]int64{lost: 1, unreferenced: 2, stale: 1}},
		{"another image", func(p *place) { p.put("results/one/a1-0.png", "abd") }, map[string]int64{wrong: 2}},
		{"another picture", func(p *place) {
			p.put("results/one/a1-0.png", "abd")
			p.put("results/one/result.json", recordOf("a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"))
		}, map[string]int64{wrong: 1}},
		{"failed", func(p *place) { p.put("results/one/result.json", `{"id":"one","state":"failed"}`) }, map[string]int64{wrong: 1, unreferenced: 1, stale: 1}},
		{"image of a loser", func(p *place) { p.put("results/one/a2-0.png", "abc") }, map[string]int64{unreferenced: 1}},
		{"probe", func(p *place) { p.put("probe/x", "abc") }, map[string]int64{unreferenced: 1}},
		{"photo", func(p *place) { p.put("inputs/one/input", "abc") }, map[string]int64{inputs: 1}},
		{"photo of another prefix", func(p *place) { p.options.prefix = "some"; p.put("inputs/x", "abc"); p.options.prefix += "/where" }, nil},
		{"prompt in an object", func(p *place) { p.put("results/one/deleted.json", "of a red fox") }, map[string]int64{told: 1}},
		{"two records", func(p *place) { p.file(p.options.journal, accepted+accepted) }, map[string]int64{duplicate: 1}},
		{"record without a journal", func(p *place) { p.file(p.options.journal, "") }, map[string]int64{wrong: 1}},
		{"task", func(p *place) { p.do("HSET", "asynq:{interactive}:t:one", "msg", "x") }, map[string]int64{leftover: 1}},
		{"pending", func(p *place) { p.do("LPUSH", "asynq:{interactive}:pending", "one") }, map[string]int64{leftover: 1}},
		{"key for ever", func(p *place) { p.do("SET", "imgus:cancel:one", "1") }, map[string]int64{leftover: 1}},
		{"key of another", func(p *place) { p.do("SET", "x", "a red fox", "EX", 60) }, map[string]int64{leftover: 1, told: 1}},
		{"prompt in a status", func(p *place) { p.do("HSET", "imgus:job:one", "p", "a red fox "+strings.Repeat("again ", 100)) }, map[string]int64{told: 1}},
		{"status of before", func(p *place) { p.do("HSET", "imgus:job:one", "state", "running") }, map[string]int64{stale: 1}},
		{"no status", func(p *place) { p.do("DEL", "imgus:job:one") }, map[string]int64{stale: 1}},
		{"file", func(p *place) { p.file(filepath.Join(p.options.scratch, "x"), "12345") }, map[string]int64{scratch: 5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			tt.harm(p)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := audit(ctx, p.options)
			if err != nil {
				t.Fatal(err)
			}
			for what, n := range r.counts {
				if want := tt.want[what]; what != jobs && n != want {
					t.Errorf("%s: %d, want %d", what, n, want)
				}
			}
			for what, want := range tt.want {
				if n := r.counts[what]; n != want {
					t.Errorf("%s: %d, want %d", what, n, want)
				}
			}
			if r.clean() != (tt.want == nil) || r.counts[jobs] != 1 {
				t.Errorf("clean is %t, jobs %d", r.clean(), r.counts[jobs])
			}
			if t.Failed() {
				var text strings.Builder
				r.print(&text)
				t.Log(text.String())
			}
		})
	}
}
