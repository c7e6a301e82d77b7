package s3_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
	"github.com/imgus/worker/storage/storagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(server *testservices.S3Server) s3.Options {
	return s3.Options{
		Endpoint: server.Endpoint, Bucket: server.Bucket, AccessKey: server.AccessKey, SecretKey: server.SecretKey,
		Prefix: "/test-" + strings.ToLower(rand.Text()) + "/", // the leading slash must not matter
	}
}

func open(t *testing.T, opts s3.Options) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestS3(t *testing.T) {
	server := testservices.S3(t)
	storagetest.Accept(t, func(t *testing.T) storage.Bucket { return open(t, options(server)) })
}

func TestTLS(t *testing.T) {
	server := testservices.S3(t)
	opts := options(server)
	opts.TLS = true
	opts.Endpoint, opts.CAFile = testservices.TLS(t, server.Endpoint)
	if err := open(t, opts).Check(t.Context()); err != nil {
		t.Error(err)
	}
	opts.CAFile = ""
	if err := open(t, opts).Check(t.Context()); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: got %v", err)
	}
}

// What an object has besides its bytes.
func TestMetadata(t *testing.T) {
	server := testservices.S3(t)
	opts := options(server)
	b := open(t, opts)
	client, err := minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("picture")
	sum := sha256.Sum256(data)
	put := storage.PutOptions{ContentType: "image/webp"}
	if err := errors.Join(b.Put(t.Context(), "a", data, put), b.PutIfAbsent(t.Context(), "b", data, put)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		info, err := client.StatObject(t.Context(), server.Bucket, strings.Trim(opts.Prefix, "/")+"/"+key, minio.StatObjectOptions{Checksum: true})
		if err != nil {
			t.Fatal(err)
		}
		if info.ContentType != "image/webp" || info.Metadata.Get("Cache-Control") != "private, no-store" || len(info.UserMetadata) != 0 {
			t.Errorf("%s: got type %q, headers %v, user metadata %v", key, info.ContentType, info.Metadata, info.UserMetadata)
		}
		if want := base64.StdEncoding.EncodeToString(sum[:]); info.ChecksumSHA256 != want {
			t.Errorf("%s: got checksum %q, want %q", key, info.ChecksumSHA256, want)
		}
	}
}

func TestFlippedByte(t *testing.T) {
	server := testservices.StartS3(t)
	opts := options(server)
	b := open(t, opts)
	if err := b.Put(t.Context(), "results/a", []byte("the data"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(server.Folder, opts.Prefix, "results/a")
	if err := os.WriteFile(file, []byte("the dato"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), "results/a", 100); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func TestOutage(t *testing.T) {
	server := testservices.StartS3(t)
	b := open(t, options(server))
	if err := b.Put(t.Context(), "inputs/a", []byte("1"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	var trying sync.WaitGroup
	for doing, try := range operations(b) {
		trying.Go(func() {
			if err := try(t.Context()); !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "inputs") {
				t.Errorf("%s: got %v", doing, err)
			}
		})
	}
	trying.Wait()
	server.Start()
	if got, err := b.Get(t.Context(), "inputs/a", 1); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWrongAccess(t *testing.T) {
	server := testservices.S3(t)
	for name, change := range map[string]func(*s3.Options){
		"secret key":     func(o *s3.Options) { o.SecretKey = "wrong" },
		"does not exist": func(o *s3.Options) { o.Bucket = "another" },
	} {
		opts := options(server)
		change(&opts)
		err := open(t, opts).Check(t.Context())
		if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if strings.Contains(err.Error(), server.SecretKey) || strings.Contains(err.Error(), "probe/") {
			t.Errorf("%s: the error tells too much: %v", name, err)
		}
	}
}

func TestOpen(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*s3.Options){
		"endpoint is missing":   func(o *s3.Options) { o.Endpoint = "" },
		"bucket is missing":     func(o *s3.Options) { o.Bucket = "" },
		"access key is missing": func(o *s3.Options) { o.AccessKey = "" },
		"secret key is missing": func(o *s3.Options) { o.SecretKey = "" },
		"without https://":      func(o *s3.Options) { o.Endpoint = "https://s3.example.com" },
		"host:port":             func(o *s3.Options) { o.Endpoint = "s3.example.com/path" },
		"no certificate in PEM": func(o *s3.Options) { o.CAFile = notPEM },
		"no such file":          func(o *s3.Options) { o.CAFile = notPEM + ".none" },
	} {
		opts := s3.Options{Endpoint: "s3.example.com", Bucket: "imgus", AccessKey: "key", SecretKey: "secret"}
		change(&opts)
		if _, err := s3.Open(opts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
