package s3_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// versioned is a server whose bucket keeps versions.
func versioned(t *testing.T) (*testservices.S3Server, *minio.Client) {
	t.Helper()
	server := testservices.StartS3With(t, testservices.S3Options{Versions: true})
	client, err := minio.New(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.EnableVersioning(t.Context(), server.Bucket); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// The same promises hold in a bucket that keeps versions.
func TestVersionedBucket(t *testing.T) {
	server, _ := versioned(t)
	// With versions versitygw v1.8.0 fails at a key below an object's.
	storagetest.Accept(t, func(t *testing.T) storage.Bucket { return open(t, options(server)) }, "missing")
}

// What somebody else deleted in a versioned bucket is still there; the worker's
// deletion ends that too.
func TestDeleteFinds(t *testing.T) {
	server, client := versioned(t)
	opts := options(server)
	b := open(t, opts)
	key := strings.Trim(opts.Prefix, "/") + "/inputs/a"
	for range 3 {
		if err := b.Put(t.Context(), "inputs/a", []byte("photo"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := client.RemoveObject(t.Context(), server.Bucket, key, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var photos, marks int
	for v, err := range b.Versions(t.Context(), "inputs/") {
		switch {
		case err != nil:
			t.Fatal(err)
		case v.Deleted:
			marks++
		default:
			photos++
		}
	}
	if photos != 3 || marks == 0 {
		t.Fatalf("%d photos and %d marks before", photos, marks)
	}
	if err := b.Delete(t.Context(), "inputs/a"); err != nil {
		t.Fatal(err)
	}
	for v, err := range b.Versions(t.Context(), "") {
		t.Errorf("left: %+v, %v", v, err)
	}
}

// A store that knows nothing of versions has one of each object.
func TestVersionsUnknown(t *testing.T) {
	b := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("versions") {
			refuse(w, r, http.StatusNotImplemented, "NotImplemented")
			return
		}
		_, _ = w.Write([]byte(`<ListBucketResult><Contents><Key>inputs/a</Key><Size>1</Size><LastModified>2026-01-02T03:04:05Z</LastModified></Contents></ListBucketResult>`))
	})
	n := 0
	for v, err := range b.Versions(t.Context(), "inputs/") {
		if err != nil || v.Key != "inputs/a" || !v.Current || v.ID != "" {
			t.Errorf("got %+v, %v", v, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d versions", n)
	}
}

func TestVersionsDenied(t *testing.T) {
	b := fake(t, func(w http.ResponseWriter, r *http.Request) { refuse(w, r, http.StatusForbidden, "AccessDenied") })
	for _, err := range b.Versions(t.Context(), "inputs/") {
		if err == nil || !strings.Contains(err.Error(), "s3:ListBucketVersions") {
			t.Errorf("got %v", err)
		}
	}
}
