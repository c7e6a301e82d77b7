package s3_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/s3"
)

func uploads(t *testing.T, b *s3.Bucket) (all []storage.Upload) {
	t.Helper()
	for u, err := range b.Uploads(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// A producer that uploads in parts and ends halfway leaves something that no
// listing of objects shows.
func TestUploads(t *testing.T) {
	server := testservices.S3(t)
	opts := options(server)
	b := open(t, opts)
	producer, err := minio.NewCore(server.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(server.AccessKey, server.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	prefix := strings.Trim(opts.Prefix, "/") + "/"
	for _, key := range []string{prefix + "inputs/a", prefix + "inputs/b", "elsewhere/" + prefix + "c"} {
		id, err := producer.NewMultipartUpload(t.Context(), server.Bucket, key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := producer.PutObjectPart(t.Context(), server.Bucket, key, id, 1, strings.NewReader("half a photo"), 12, minio.PutObjectPartOptions{}); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(key, "elsewhere") {
			t.Cleanup(func() { _ = producer.AbortMultipartUpload(context.Background(), server.Bucket, key, id) })
		}
	}
	found := uploads(t, b)
	if len(found) != 2 || !slices.ContainsFunc(found, func(u storage.Upload) bool { return u.Key == "inputs/a" && !u.Begun.IsZero() }) {
		t.Fatalf("found %+v", found)
	}
	for _, u := range found {
		for range 2 { // another worker may have done it
			if err := b.Abort(t.Context(), u); err != nil {
				t.Error(err)
			}
		}
	}
	if left := uploads(t, b); len(left) > 0 {
		t.Errorf("left are %+v", left)
	}
}

// The right to list uploads is one that a key need not have.
func TestUploadsDenied(t *testing.T) {
	b := fake(t, func(w http.ResponseWriter, r *http.Request) { refuse(w, r, http.StatusForbidden, "AccessDenied") })
	for _, err := range b.Uploads(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "s3:ListBucketMultipartUploads") {
			t.Errorf("got %v", err)
		}
	}
}
