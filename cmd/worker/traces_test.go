package main

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/imgus/worker/internal/testservices"
)

// A job's trace is its producer's and goes on to the storage, which takes the
// requests all the same. Nothing of the job's content is in it.
func TestTraces(t *testing.T) {
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	var mu sync.Mutex
	var sent bytes.Buffer
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&sent, r.Body)
	}))
	defer receiver.Close()
	store := testservices.S3(t)
	var carried []string
	to := &url.URL{Scheme: "http", Host: store.Endpoint}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		mu.Lock()
		carried = append(carried, r.In.Header.Get("Traceparent"))
		mu.Unlock()
		r.SetURL(to)
		r.Out.Host = r.In.Host // which is signed
	}})
	defer proxy.Close()
	p := newProgram(t, "IMGUS_REDIS_URL=redis://"+testservices.Redis(t), "IMGUS_STORAGE_ENDPOINT="+strings.TrimPrefix(proxy.URL, "http://"),
		"IMGUS_STORAGE_BUCKET="+store.Bucket, "IMGUS_STORAGE_ACCESS_KEY="+store.AccessKey, "IMGUS_STORAGE_SECRET_KEY="+store.SecretKey,
		"IMGUS_STORAGE_TLS=false", "IMGUS_MODELS_DIRECTORY="+testModels, "IMGUS_ENGINE_ISOLATE=false", "IMGUS_LOG_LEVEL=error",
		"IMGUS_TRACING_ENDPOINT="+receiver.URL, "IMGUS_TRACING_SAMPLE=0")
	stop := p.daemon()
	producer := &program{t: t, environ: append(slices.Clone(p.environ), "TRACEPARENT=00-"+trace+"-"+parent+"-01")}
	job := []string{"enqueue", "--model", "sd1", "--steps", "2", "--width", "64", "--height", "64", "--wait"}
	producer.must(exitDone, append(job, "--id", "the-traced-one", "--prompt", "a secret wish")...)
	p.must(exitDone, append(job, "--id", "another", "--prompt", "a secret wish")...) // of no trace
	if status, log := stop(); status != exitDone || log != "" {
		t.Errorf("exit status %d, %s", status, log)
	}

	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		"imgus-worker", "job", "fetch", "denoise", "vae", "encode", "store", "storage put", "storage put_if_absent", "interactive", "sd1", "done",
		string(unhex(t, trace)), string(unhex(t, parent)),
	} {
		if !bytes.Contains(sent.Bytes(), []byte(want)) {
			t.Errorf("the spans lack %q", want)
		}
	}
	for _, never := range []string{"secret", "the-traced-one", "another", "results/", store.SecretKey} {
		if bytes.Contains(sent.Bytes(), []byte(never)) {
			t.Errorf("the spans hold %q", never)
		}
	}
	with := 0
	for _, header := range carried {
		switch {
		case strings.HasPrefix(header, "00-"+trace+"-") && !strings.Contains(header, parent):
			with++
		case header != "" && !strings.HasSuffix(header, "-00"):
			t.Errorf("the storage was told %q", header)
		}
	}
	if with < 3 || with == len(carried) { // at least record, image and deletions; not the probes
		t.Errorf("%d of %d requests carry the trace", with, len(carried))
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
