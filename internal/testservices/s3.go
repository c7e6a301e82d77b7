package testservices

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// S3Server is an S3 server with one bucket. One of the test's own can Stop,
// Kill and Pause, and come back with its objects at Start and Resume.
type S3Server struct {
	*process         // nil for the server of IMGUS_TEST_S3
	Endpoint  string // host:port, without TLS
	AccessKey string
	SecretKey string
	Bucket    string

	// Folder has the objects as files, to damage them; "" for the server of
	// IMGUS_TEST_S3.
	Folder string
}

// S3 returns a server with an empty bucket, which ends with the test; with
// IMGUS_TEST_S3, that server and bucket as they are.
func S3(t testing.TB) *S3Server {
	t.Helper()
	if from := os.Getenv("IMGUS_TEST_S3"); from != "" {
		server, err := parseS3(from)
		if err != nil {
			t.Fatal(err)
		}
		return server
	}
	return StartS3(t)
}

func parseS3(from string) (*S3Server, error) {
	u, err := url.Parse(from)
	if err == nil && u.User != nil && u.Scheme == "http" {
		secret, _ := u.User.Password()
		s := &S3Server{Endpoint: u.Host, AccessKey: u.User.Username(), SecretKey: secret, Bucket: strings.Trim(u.Path, "/")}
		if s.Endpoint != "" && s.AccessKey != "" && s.SecretKey != "" && s.Bucket != "" {
			return s, nil
		}
	}
	return nil, errors.New("IMGUS_TEST_S3 is not http://key:secret@host:port/bucket")
}

// S3Options configure a server.
type S3Options struct {
	// Versions lets buckets keep the versions of their objects, once a client
	// has switched that on for the bucket.
	Versions bool
	// Users lets AddUser add accounts beside the owner's.
	Users bool
}

// StartS3 starts versitygw over a folder of the test's own.
func StartS3(t testing.TB) *S3Server {
	t.Helper()
	return StartS3With(t, S3Options{})
}

// StartS3With is StartS3 with options.
func StartS3With(t testing.TB, opts S3Options) *S3Server {
	t.Helper()
	path := binary("IMGUS_TEST_VERSITYGW", []string{"versitygw"}, "bin/versitygw*")
	if path == "" {
		unavailable(t, "no S3 server (versitygw) on this machine")
	}
	s := &S3Server{process: newProcess(t, path), AccessKey: "imgus-test", SecretKey: "imgus-test-secret", Bucket: "imgus"}
	objects := filepath.Join(s.dir, "objects")
	s.Folder = filepath.Join(objects, s.Bucket) // which makes it a bucket
	if err := os.MkdirAll(s.Folder, 0o700); err != nil {
		t.Fatal(err)
	}
	folder := func(name string) string {
		path := filepath.Join(s.dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var server, backend []string
	if opts.Users {
		server = append(server, "--iam-dir", folder("users"))
	}
	if opts.Versions {
		backend = append(backend, "--versioning-dir", folder("versions"))
	}
	s.ready = func() error { return healthy(s.Endpoint) }
	s.startOnFreePort(false, func(port int) {
		s.Endpoint = address(port)
		// Checksums are kept in extended attributes. With --sidecar, for file systems
		// that have none, versitygw v1.8.0 mixes up objects put at the same time.
		s.args = slices.Concat([]string{
			"--port", s.Endpoint, "--access", s.AccessKey, "--secret", s.SecretKey, "--health", healthPath, "--quiet",
		}, server, []string{"posix"}, backend, []string{objects})
	})
	return s
}

// AddUser adds an account without any right; a bucket policy gives it some. The
// server must have been started with Users.
func (s *S3Server) AddUser(t testing.TB, access, secret string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.path, "admin", "--access", s.AccessKey, "--secret", s.SecretKey,
		"--endpoint-url", "http://"+s.Endpoint, "create-user", "--access", access, "--secret", secret, "--role", "user").CombinedOutput()
	if err != nil {
		t.Fatalf("add S3 user: %v\n%s", err, out)
	}
}

const healthPath = "/healthz"

func healthy(endpoint string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	response, err := client.Get("http://" + endpoint + healthPath)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}
