package privacy_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/imgus/worker/privacy"
	"github.com/imgus/worker/storage"
	"github.com/imgus/worker/storage/storagetest"
)

// album is a bucket of which each image is large, and made when it is asked for.
type album struct {
	*storagetest.MemoryBucket

	most uint64 // of the heap, as seen between two images
}

const imageSize = 4 << 20

func (a *album) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	data, err := a.MemoryBucket.Get(ctx, key, limit)
	if err == nil && string(data) == "large" {
		data = make([]byte, imageSize)
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		a.most = max(a.most, stats.HeapInuse)
	}
	return data, err
}

// An export takes the memory of one object, however large the whole is.
func TestExportMemory(t *testing.T) {
	const jobs = 150
	a := &album{MemoryBucket: storagetest.Memory()}
	for i := range jobs {
		id := fmt.Sprint("job-", i)
		image := storage.ImageKey(id, "t", 0, "png")
		for key, data := range map[string]string{
			image: "large", storage.SubjectKey(anon, id): "{}",
			storage.RecordKey(id): fmt.Sprintf(`{"version":1,"id":%q,"state":"done","images":[{"key":%q,"sha256":%q}]}`, id, image, digest(string(make([]byte, imageSize)))),
		} {
			if err := a.Put(t.Context(), key, []byte(data), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rights := privacy.New(privacy.Options{Bucket: a, Queue: &queues{}, SubjectKey: key})
	manifest, err := rights.Export(t.Context(), subject, io.Discard)
	if err != nil || len(manifest.Files) != 2*jobs {
		t.Fatalf("%d files, %v", len(manifest.Files), err)
	}
	t.Logf("%d MiB exported with a heap of %d MiB at most", jobs*imageSize>>20, a.most>>20)
	if a.most > 64<<20 {
		t.Errorf("the heap grew to %d MiB", a.most>>20)
	}
}
