package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Connection says how to reach Redis: through Cluster if that has addresses,
// else through Sentinel if that has a master, else by URL.
type Connection struct {
	// URL is redis://, rediss:// (TLS) or unix://, or just host:port.
	URL string
	// Username and Password are used in place of the URL's.
	Username string
	Password string
	TLS      TLS
	Sentinel Sentinel
	Cluster  Cluster
}

// TLS secures the connection. CAFile, PEM, replaces the system's authorities.
type TLS struct {
	Enabled bool
	CAFile  string
}

// Sentinel finds the master by its name. The sentinels themselves are asked
// without a password.
type Sentinel struct {
	Master    string
	Addresses []string
}

// Cluster names some nodes of a Redis Cluster; they know the others.
type Cluster struct {
	Addresses []string
}

// Check reports whether the description makes sense; it connects to nothing.
func (c Connection) Check() error {
	_, err := c.options()
	return err
}

// silence keeps go-redis from writing addresses and errors to standard error.
var silence = sync.OnceFunc(logging.Disable)

// open makes n clients, each with a pool of its own, which share the pace of
// connecting. Nothing is dialled before a client is used.
func (c Connection) open(n int) ([]redis.UniversalClient, error) {
	opts, err := c.options()
	if err != nil {
		return nil, err
	}
	silence()
	clients := make([]redis.UniversalClient, n)
	for i := range clients {
		clients[i] = redis.NewUniversalClient(opts)
	}
	return clients, nil
}

func (c Connection) options() (*redis.UniversalOptions, error) {
	opts := &redis.UniversalOptions{
		DialTimeout:           3 * time.Second,
		ReadTimeout:           3 * time.Second,
		WriteTimeout:          3 * time.Second,
		ContextTimeoutEnabled: true,
		// The dialer below paces itself.
		DialerRetries: 1,
		// Both ask the server for what an ACL need not allow.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	secure := c.TLS.Enabled
	switch sentinel := c.Sentinel.Master != "" || len(c.Sentinel.Addresses) > 0; {
	case len(c.Cluster.Addresses) > 0 && sentinel:
		return nil, errors.New("redis: give sentinel or cluster, not both")
	case len(c.Cluster.Addresses) > 0:
		opts.Addrs, opts.IsClusterMode = c.Cluster.Addresses, true
	case sentinel:
		if c.Sentinel.Master == "" || len(c.Sentinel.Addresses) == 0 {
			return nil, errors.New("redis sentinel: give the master's name and the sentinels' addresses")
		}
		opts.Addrs, opts.MasterName = c.Sentinel.Addresses, c.Sentinel.Master
	default:
		url, err := parseURL(c.URL)
		if err != nil {
			return nil, err
		}
		opts.Addrs, opts.DB = []string{url.Addr}, url.DB
		opts.Username, opts.Password = url.Username, url.Password
		secure = secure || url.TLSConfig != nil
	}
	if c.Username != "" {
		opts.Username = c.Username
	}
	if c.Password != "" {
		opts.Password = c.Password
	}
	d := &dialer{}
	if secure {
		config, err := tlsConfig(c.TLS.CAFile)
		if err != nil {
			return nil, err
		}
		d.tls = config
	}
	opts.Dialer, opts.OnConnect = d.dial, d.connected
	return opts, nil
}

// parseURL never quotes the URL in an error, since it may hold a password.
func parseURL(raw string) (*redis.Options, error) {
	if !strings.Contains(raw, "://") {
		if _, _, err := net.SplitHostPort(raw); err != nil {
			return nil, errors.New("redis url: must be redis://, rediss:// or unix://, or host:port")
		}
		return &redis.Options{Addr: raw}, nil
	}
	opts, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errors.New("redis url: must look like redis://user:password@host:port/database")
	}
	if strings.Contains(raw, "?") && opts.Network != "unix" {
		return nil, errors.New("redis url: no options after '?'")
	}
	return opts, nil
}

func tlsConfig(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("redis tls: read authority: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redis tls: no certificate in %s", caFile)
	}
	return config, nil
}
