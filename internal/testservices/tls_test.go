package testservices

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"testing"
)

func TestTLSInFrontOfRedis(t *testing.T) {
	addr, caFile := TLS(t, StartRedis(t, RedisOptions{}).Addr)
	authority, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "+PONG\r\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if _, err := tls.Dial("tcp", addr, nil); err == nil {
		t.Error("the certificate is trusted without its authority")
	}
}
