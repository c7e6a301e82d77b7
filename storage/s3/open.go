package s3

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Options say where the bucket is and how to get in.
type Options struct {
	Endpoint  string // host or host:port
	Region    string // "" is us-east-1
	Bucket    string
	Prefix    string // goes before every key; a slash is put in between
	AccessKey string
	SecretKey string

	TLS    bool
	CAFile string // PEM; with it, no other authority is trusted

	// Between, if not nil, stands between the bucket and the network.
	Between func(http.RoundTripper) http.RoundTripper

	// Timeout bounds one operation; 0 is two minutes. List has no bound as a
	// whole, each of its pages has.
	Timeout time.Duration
}

const (
	connectTimeout = 10 * time.Second
	headerTimeout  = time.Minute // from the request's last byte to the answer's first
	tries          = 3
)

// Open prepares a bucket. It does not connect: the first operation does.
func Open(opts Options) (*Bucket, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	transport, err := newTransport(opts.CAFile)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	b := &Bucket{name: opts.Bucket, timeout: opts.Timeout, transport: transport}
	if b.timeout == 0 {
		b.timeout = 2 * time.Minute
	}
	if prefix := strings.Trim(opts.Prefix, "/"); prefix != "" {
		b.prefix = prefix + "/"
	}
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	var network http.RoundTripper = markTelling{transport}
	if opts.Between != nil {
		network = opts.Between(network)
	}
	open := func(tries int) (*minio.Core, error) {
		return minio.NewCore(opts.Endpoint, &minio.Options{
			Creds: credentials.NewStaticV4(opts.AccessKey, opts.SecretKey, ""), Secure: opts.TLS, Region: opts.Region,
			Transport: network, MaxRetries: tries,
		})
	}
	if b.client, err = open(tries); err != nil {
		return nil, errors.New("open bucket: the endpoint is no host or host:port")
	}
	if b.once, err = open(1); err != nil {
		return nil, errors.New("open bucket: the endpoint is no host or host:port")
	}
	return b, nil
}

func (o Options) validate() error {
	var problems []error
	for _, required := range []struct{ name, value string }{
		{"endpoint", o.Endpoint}, {"bucket", o.Bucket}, {"access key", o.AccessKey}, {"secret key", o.SecretKey},
	} {
		if required.value == "" {
			problems = append(problems, fmt.Errorf("the %s is missing", required.name))
		}
	}
	if strings.Contains(o.Endpoint, "://") {
		problems = append(problems, errors.New("the endpoint is a host or host:port, without https://"))
	}
	return errors.Join(problems...)
}

func newTransport(caFile string) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the authority's certificate: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the authority's certificate: %s has no certificate in PEM", caFile)
		}
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: config,
		TLSHandshakeTimeout: connectTimeout, ResponseHeaderTimeout: headerTimeout,
		MaxIdleConnsPerHost: 32, IdleConnTimeout: 90 * time.Second,
		DisableCompression: true, // else an object stored with Content-Encoding is unpacked and its size lost
	}, nil
}
