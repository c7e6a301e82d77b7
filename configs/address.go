package configs

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// redisAddress is what a redis URL says, as far as the rules need it.
type redisAddress struct {
	scheme, host, path string
	username           string
	password           bool
}

const redisURLForm = "must be redis://[user:password@]host:port[/number], rediss://… with TLS, unix:///path, or host:port"

// parseRedisURL reads a Redis URL or a bare address. It tells only whether the
// form is right: the text may hold a password and belongs into no message.
func parseRedisURL(text string) (redisAddress, bool) {
	if !strings.Contains(text, "://") {
		return redisAddress{scheme: "redis", host: text}, isAddress(text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return redisAddress{}, false
	}
	a := redisAddress{scheme: u.Scheme, host: u.Host, path: u.Path, username: u.User.Username()}
	_, a.password = u.User.Password()
	switch u.Scheme {
	case "redis", "rediss":
		database := strings.TrimPrefix(u.Path, "/")
		_, err := strconv.ParseUint(database, 10, 16)
		return a, u.Hostname() != "" && u.RawQuery == "" && u.Fragment == "" && isPort(u.Port(), true) && (database == "" || err == nil)
	case "unix":
		return a, u.Host == "" && len(u.Path) > 1
	default:
		return a, false
	}
}

// redacted is the URL without password, options and anything it cannot read.
func (s Secret) redacted() string {
	text := string(s)
	a, ok := parseRedisURL(text)
	switch {
	case !ok:
		return s.String()
	case !strings.Contains(text, "://"):
		return text
	}
	user := ""
	switch {
	case a.password:
		user = url.User(a.username).String() + ":" + hidden + "@"
	case a.username != "":
		user = hidden + "@" // a token may stand where the name belongs
	}
	return a.scheme + "://" + user + a.host + a.path
}

// isLoopback tells whether an address stays on this machine. A name other than
// localhost is not looked up: it may change.
func isLoopback(address string) bool {
	host := address
	if h, _, err := net.SplitHostPort(address); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// isAddress tells whether text is host:port.
func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && isHost(host) && isPort(port, false)
}

// isEndpoint tells whether text is host or host:port.
func isEndpoint(text string) bool { return isHost(text) || isAddress(text) }

func isHost(text string) bool {
	return text != "" && (net.ParseIP(text) != nil || !strings.ContainsAny(text, ":/@?# \t\r\n"))
}

func isPort(text string, optional bool) bool {
	if text == "" {
		return optional
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return err == nil && number > 0
}
