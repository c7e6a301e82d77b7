package faults_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/imgus/worker/chaos/faults"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends back every line.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestLink(t *testing.T) {
	link, err := faults.NewLink(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", link.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	say := func(conn net.Conn) error {
		fmt.Fprintln(conn, "hello")
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := bufio.NewReader(conn).ReadString('\n')
		return err
	}
	conn := dial()
	if err := say(conn); err != nil {
		t.Fatal(err)
	}
	link.Stall()
	var timeout net.Error
	if err := say(conn); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("stalled: %v", err)
	}
	if err := link.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := say(conn); err != nil {
		t.Errorf("flows again: %v", err)
	}
	link.Cut()
	if err := say(conn); err == nil {
		t.Error("a cut link carries")
	}
	if _, err := net.Dial("tcp", link.Addr()); err == nil {
		t.Error("a cut link can be dialled")
	}
	if err := link.Restore(); err != nil {
		t.Fatal(err)
	}
	if err := say(dial()); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestStore(t *testing.T) {
	seen := 0
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, r.Host)
	}))
	defer backend.Close()
	var journal bytes.Buffer
	store, err := faults.NewStore(strings.TrimPrefix(backend.URL, "http://"), &journal)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	put := func() (int, string, error) {
		request, err := http.NewRequest(http.MethodPut, "http://"+store.Addr()+"/bucket/key", strings.NewReader("data"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, string(body), err
	}
	if status, host, err := put(); status != http.StatusCreated || host != store.Addr() || err != nil {
		t.Errorf("%d, %q, %v", status, host, err)
	}
	store.Refuse(true)
	if status, _, err := put(); status != http.StatusServiceUnavailable || err != nil || seen != 1 {
		t.Errorf("refused: %d, %v, seen %d", status, err, seen)
	}
	store.Refuse(false)
	store.LoseReplies(1)
	if status, _, err := put(); err == nil || seen != 2 {
		t.Errorf("lost: %d, seen %d", status, seen)
	}
	if status, _, err := put(); status != http.StatusCreated || err != nil {
		t.Errorf("afterwards: %d, %v", status, err)
	}
	// The same seed decides the same way.
	var runs [2]string
	for i := range runs {
		store.Shake(7, 0.3)
		for range 20 {
			status, _, err := put()
			runs[i] += fmt.Sprintf("%d %t,", status, err != nil)
		}
	}
	if runs[0] != runs[1] || !strings.Contains(runs[0], "503") || !strings.Contains(runs[0], "0 true") || store.Faults() == 0 {
		t.Errorf("%s\n%s", runs[0], runs[1])
	}
	entries := store.Entries(time.Time{})
	if len(entries) != seen || entries[1].Method != http.MethodPut || entries[1].Path != "/bucket/key" || entries[1].Status != http.StatusCreated {
		t.Errorf("%d entries of %d: %+v", len(entries), seen, entries[1])
	}
	var first faults.Entry
	if err := json.NewDecoder(&journal).Decode(&first); err != nil || !first.At.Equal(entries[0].At) {
		t.Errorf("%+v, %v", first, err)
	}
}
