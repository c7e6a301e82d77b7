package s3_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
)

// operations are all that a bucket can be asked.
func operations(b *s3.Bucket) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"get":  func(ctx context.Context) error { _, err := b.Get(ctx, "inputs/a", 100); return err },
		"stat": func(ctx context.Context) error { _, err := b.Stat(ctx, "inputs/a"); return err },
		"put":  func(ctx context.Context) error { return b.Put(ctx, "inputs/a", []byte("1"), storage.PutOptions{}) },
		"put if absent": func(ctx context.Context) error {
			return b.PutIfAbsent(ctx, "inputs/a", []byte("1"), storage.PutOptions{})
		},
		"delete": func(ctx context.Context) error { return b.Delete(ctx, "inputs/a") },
		"check":  b.Check,
		"list": func(ctx context.Context) (err error) {
			for _, err = range b.List(ctx, "inputs/") {
			}
			return err
		},
	}
}

// fake opens a bucket on a store that answers as the test likes, for what a real
// store cannot be made to do.
func fake(t *testing.T, answer http.HandlerFunc) *s3.Bucket {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return open(t, s3.Options{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: "imgus", AccessKey: "key", SecretKey: "secret",
		Timeout: 20 * time.Second,
	})
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>about %s</Message><Key>%s</Key></Error>", code, html.EscapeString(r.URL.String()), r.URL.Path)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		want   error
		text   string
		others map[string]error // operations of which something else is wanted
	}{
		{403, "AccessDenied", storage.ErrUnavailable, "the access key needs s3:", nil},
		{403, "InvalidAccessKeyId", storage.ErrUnavailable, "check the access key and the secret key", nil},
		{403, "RequestTimeTooSkewed", storage.ErrUnavailable, "clock", nil},
		{301, "PermanentRedirect", storage.ErrUnavailable, "", nil},
		{400, "Whatever", storage.ErrUnavailable, "", nil},
		{503, "SlowDown", storage.ErrUnavailable, "(503)", nil},
		{404, "NoSuchKey", storage.ErrNotFound, "", map[string]error{"delete": nil, "list": storage.ErrUnavailable}},
		{412, "PreconditionFailed", storage.ErrExists, "", nil},
	} {
		b := fake(t, func(w http.ResponseWriter, r *http.Request) { refuse(w, r, tt.status, tt.code) })
		for doing, try := range operations(b) {
			t.Run(tt.code+" "+doing, func(t *testing.T) {
				t.Parallel()
				want := tt.want
				if other, ok := tt.others[doing]; ok {
					want = other
				}
				// A HEAD's refusal has no code.
				err, text := try(t.Context()), tt.text
				if doing == "stat" && tt.status == http.StatusForbidden {
					text = "the access key needs s3:GetObject"
				}
				if !errors.Is(err, want) {
					t.Fatalf("got %v, want %v", err, want)
				}
				if err != nil && (!strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "inputs") || strings.Contains(err.Error(), "probe/")) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func TestUnfitStores(t *testing.T) {
	noCondition := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			refuse(w, r, http.StatusNotImplemented, "NotImplemented")
			return
		}
		refuse(w, r, http.StatusNotFound, "NoSuchKey")
	})
	ignoresCondition := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPut:
			_, _ = io.Copy(io.Discard, r.Body)
		case http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			refuse(w, r, http.StatusNotFound, "NoSuchKey")
		}
	})
	for _, b := range []*s3.Bucket{noCondition, ignoresCondition} {
		if err := b.Check(t.Context()); err == nil || errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "unfit") {
			t.Errorf("got %v", err)
		}
	}
}

// A connection that ends without an answer names no key, though minio-go's words
// for it do.
func TestConnectionClosed(t *testing.T) {
	b := fake(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for doing, try := range operations(b) {
		t.Run(doing, func(t *testing.T) {
			t.Parallel()
			if err := try(t.Context()); !errors.Is(err, storage.ErrUnavailable) || strings.Contains(err.Error(), "inputs") || strings.Contains(err.Error(), "http") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The second try of a conditional write would lose against the first one.
func TestConditionalWriteWhoseAnswerIsLost(t *testing.T) {
	var tries atomic.Int64
	b := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "*" {
			t.Errorf("the write is unconditional: %v", r.Header)
		}
		tries.Add(1)
		refuse(w, r, http.StatusInternalServerError, "InternalError")
	})
	err := b.PutIfAbsent(t.Context(), "results/1/result.json", []byte("1"), storage.PutOptions{})
	if !errors.Is(err, storage.ErrUnavailable) || tries.Load() != 1 {
		t.Errorf("got %v after %d tries", err, tries.Load())
	}
}

// Two conditional writes at the same time can both be turned away.
func TestConditionalWriteInConflict(t *testing.T) {
	var tries atomic.Int64
	b := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch tries.Add(1) {
		case 1, 2:
			refuse(w, r, http.StatusConflict, "ConditionalRequestConflict")
		default:
			refuse(w, r, http.StatusPreconditionFailed, "PreconditionFailed")
		}
	})
	err := b.PutIfAbsent(t.Context(), "results/1/result.json", []byte("1"), storage.PutOptions{})
	if !errors.Is(err, storage.ErrExists) || tries.Load() != 3 {
		t.Errorf("got %v after %d tries", err, tries.Load())
	}
}

func TestErrorsThatPass(t *testing.T) {
	var tries atomic.Int64
	b := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) < 3 {
			refuse(w, r, http.StatusServiceUnavailable, "SlowDown")
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method == http.MethodPut && string(body) != "data" {
			t.Errorf("put %q, %v", body, err)
		}
		object(w, "data")
	})
	if err := b.Put(t.Context(), "inputs/a", []byte("data"), storage.PutOptions{}); err != nil || tries.Load() != 3 {
		t.Errorf("put: %v after %d tries", err, tries.Load())
	}
	tries.Store(0)
	if got, err := b.Get(t.Context(), "inputs/a", 100); err != nil || string(got) != "data" {
		t.Errorf("got %q, %v", got, err)
	}
}

func object(w http.ResponseWriter, data string) {
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("ETag", `"1"`)
	_, _ = io.WriteString(w, data)
}

// A body that is too large is not fetched, one that is cut off is no object, and
// a checksum without its type is compared too.
func TestBodies(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error
	}{
		"too large": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000000000000")
			object(w, "the first bytes")
		}, storage.ErrTooLarge},
		"cut off": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			object(w, "the first bytes")
		}, storage.ErrUnavailable},
		"checksum without type": {func(w http.ResponseWriter) {
			w.Header().Set("X-Amz-Checksum-Sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=") // of ""
			object(w, "data")
		}, storage.ErrCorrupt},
		"another checksum": {func(w http.ResponseWriter) {
			w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
			w.Header().Set("X-Amz-Checksum-Crc32", "AAAAAA==")
			object(w, "data")
		}, storage.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			b := fake(t, func(w http.ResponseWriter, _ *http.Request) { tt.answer(w) })
			if got, err := b.Get(t.Context(), "inputs/a", 100); !errors.Is(err, tt.want) {
				t.Errorf("got %q, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// A store that hangs is unavailable; a caller that gives up is told so.
func TestHanging(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the connection's end is seen only when the body was read
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	b := open(t, s3.Options{
		Endpoint: strings.TrimPrefix(server.URL, "http://"), Bucket: "imgus", AccessKey: "key", SecretKey: "secret", Timeout: 50 * time.Millisecond,
	})
	for doing, try := range operations(b) {
		if doing == "list" {
			continue // has no bound of its own
		}
		if err := try(t.Context()); !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", doing, err)
		}
	}
	for doing, try := range operations(b) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := try(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("%s, given up: got %v", doing, err)
		}
		cancel()
	}
}
