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

// StartS3 starts versitygw over a folder of the test's own.
func StartS3(t testing.TB) *S3Server {
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
	s.ready = func() error { return healthy(s.Endpoint) }
	s.startOnFreePort(false, func(port int) {
		s.Endpoint = address(port)
		s.args = []string{
			"--port", s.Endpoint, "--access", s.AccessKey, "--secret", s.SecretKey, "--health", healthPath, "--quiet",
			// Checksums are kept in extended attributes. With --sidecar, for file systems
			// that have none, versitygw v1.8.0 mixes up objects put at the same time.
			"posix", objects,
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
