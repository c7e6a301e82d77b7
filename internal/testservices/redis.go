package testservices

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// RedisServer is a Redis server of the test's own. Stop, Kill and Pause make it
// go away; Start and Resume bring it back on the same address.
type RedisServer struct {
	*process
	Addr string // host:port
}

// RedisOptions configure a server. The zero value is an empty server in memory
// without a password and with maxmemory-policy noeviction.
type RedisOptions struct {
	// Password is the default user's; see Users.
	Password string
	// Users are lines of an ACL file, such as "user worker on >secret ~* &* +@all".
	// With them Password has no effect: give the line "user default …" instead.
	Users []string
	// Persist keeps what was written across Kill and Start.
	Persist bool
	// Args are further options of the command line, such as "--maxmemory", "10mb".
	Args []string
}

// Redis returns the address, host:port, of an empty Redis server that ends with
// the test; with IMGUS_TEST_REDIS, of that server as it is.
func Redis(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv("IMGUS_TEST_REDIS"); addr != "" {
		return addr
	}
	return StartRedis(t, RedisOptions{}).Addr
}

// StartRedis starts a Redis server that ends with the test.
func StartRedis(t testing.TB, opts RedisOptions) *RedisServer {
	t.Helper()
	return startRedis(t, opts, false)
}

func startRedis(t testing.TB, opts RedisOptions, cluster bool) *RedisServer {
	t.Helper()
	s := &RedisServer{process: newProcess(t, redisBinary(t))}
	args := []string{"--bind", "127.0.0.1", "--save", "", "--dir", s.dir, "--maxmemory-policy", "noeviction"}
	if opts.Persist {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	} else {
		args = append(args, "--appendonly", "no")
	}
	if opts.Password != "" {
		args = append(args, "--requirepass", opts.Password)
	}
	if opts.Users != nil {
		file := filepath.Join(s.dir, "users.acl")
		if err := os.WriteFile(file, []byte(strings.Join(opts.Users, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--aclfile", file)
	}
	if cluster {
		args = append(args, "--cluster-enabled", "yes")
	}
	args = append(args, opts.Args...)
	s.ready = func() error { return ping(s.Addr) }
	s.startOnFreePort(cluster, func(port int) {
		s.Addr = address(port)
		s.args = append([]string{"--port", strconv.Itoa(port)}, args...)
	})
	return s
}

// ping reports whether a Redis server is ready for commands; one that wants a
// password is.
func ping(addr string) error {
	_, err := command(addr, "PING")
	if err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
		return nil
	}
	return err
}

var redisVersion = regexp.MustCompile(`\bv=(\d+)\.(\d+)`)

// checkRedis runs a server's --version once and says why it does not fit.
var checkRedis = func() func(path string) string {
	var checked sync.Map
	return func(path string) string {
		if problem, ok := checked.Load(path); ok {
			return problem.(string)
		}
		problem := ""
		out, err := exec.Command(path, "--version").Output()
		if match := redisVersion.FindSubmatch(out); err != nil || match == nil {
			problem = path + " is no Redis server"
		} else if major, minor := atoi(match[1]), atoi(match[2]); major < 6 || major == 6 && minor < 2 {
			problem = path + " is older than Redis 6.2"
		}
		checked.Store(path, problem)
		return problem
	}
}()

func atoi(digits []byte) int {
	n, _ := strconv.Atoi(string(digits)) // the pattern matched digits only
	return n
}

func redisBinary(t testing.TB) string {
	t.Helper()
	path := binary("IMGUS_TEST_REDIS_SERVER", []string{"redis-server", "valkey-server"}, "valkey/*/valkey-server")
	if path == "" {
		unavailable(t, "no Redis server on this machine")
	}
	if problem := checkRedis(path); problem != "" {
		unavailable(t, problem)
	}
	return path
}
