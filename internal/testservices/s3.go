package testservices

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
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

// StartS3 starts versitygw over a folder of the test's own.
func StartS3(t testing.TB) *S3Server {
	t.Helper()
	path := binary("IMGUS_TEST_VERSITYGW", []string{"versitygw"}, "bin/versitygw*")
	if path == "" {
		unavailable(t, "no S3 server (versitygw) on this machine")
	}
	s := &S3Server{process: newProcess(t, path), AccessKey: "imgus-test", SecretKey: "imgus-test-secret", Bucket: "imgus"}
	objects, metadata := filepath.Join(s.dir, "objects"), filepath.Join(s.dir, "metadata")
	for _, dir := range []string{filepath.Join(objects, s.Bucket), metadata} { // a bucket is a folder
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.ready = func() error { return healthy(s.Endpoint) }
	s.startOnFreePort(false, func(port int) {
		s.Endpoint = address(port)
		s.args = []string{
			"--port", s.Endpoint, "--access", s.AccessKey, "--secret", s.SecretKey, "--health", healthPath, "--keep-alive", "--quiet",
			// Not every file system has the extended attributes that are the alternative.
			"posix", "--sidecar", metadata, objects,
		}
	})
	return s
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
