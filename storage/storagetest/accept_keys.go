package storagetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/imgus/worker/storage"
)

func (s suite) list(t *testing.T) {
	s.wantKeys(t, "")
	keys := []string{
		"inputs/a", "inputs/a-b/c", "inputs/a.txt", "inputs/ab/c", "inputs/b/c/d", "inputs/b/c0", "inputs/b0",
		"results/1/result.json", "results/1/x-0.png", "results/1/x-1.png", "results/1/xy-0.png", "results/10/result.json",
	}
	for _, key := range slices.Backward(keys) {
		s.put(t, key, key)
	}
	for _, prefix := range []string{
		"", "i", "inputs/", "inputs/a", "inputs/a-", "inputs/b/", "inputs/b/c", "inputs/b/c/", "inputs/b/c/d", "inputs/b/c/d/",
		"results", "results/1", "results/1/", "results/1/x-", "results/2/", "other/", "/", "inputs//", "../", "..",
	} {
		var want []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		s.wantKeys(t, prefix, want...)
	}

	// The caller may stop, and may delete what it is given.
	for object, err := range s.List(t.Context(), "inputs/") {
		if err != nil || object.Key != "inputs/a" {
			t.Errorf("got %v, %v", object, err)
		}
		break
	}
	for object, err := range s.List(t.Context(), "") {
		wantErr(t, err, nil)
		wantErr(t, s.Delete(t.Context(), object.Key), nil)
	}
	s.wantKeys(t, "")
}

// longList: more objects than a page of S3 holds.
func (s suite) longList(t *testing.T) {
	var keys []string
	var group errgroup.Group
	group.SetLimit(16)
	for i := range 1100 {
		keys = append(keys, fmt.Sprintf("results/%04d/%d", i/10, i%10))
	}
	for _, key := range keys {
		group.Go(func() error { return s.Put(t.Context(), key, nil, storage.PutOptions{}) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(t, "", keys...)
	s.wantKeys(t, "results/00", keys[:1000]...)
}

func (s suite) strangeKeys(t *testing.T) {
	long := "inputs" + strings.Repeat("/"+strings.Repeat("k", 99), 5)
	keys := []string{
		"i", "inputs/ ", "inputs/a b", "inputs/+", "inputs/a+b", "inputs/%", "inputs/%2F", "inputs/%00", "inputs/&<>\"'", "inputs/;?#=@:,$",
		"inputs/ü", "inputs/u\u0308", "inputs/猫/🎨.png", "inputs/.hidden", "inputs/..a", "inputs/a..", "inputs/...", "inputs/~", "inputs/-rf", "inputs/*",
		"inputs/tmp", "inputs/.imgus/a", long + strings.Repeat("k", 512-len(long)),
	}
	for _, key := range keys {
		if strings.HasPrefix(key, storage.InputPrefix) && !storage.ValidInputKey(key) {
			t.Fatalf("%q is no key that a job may have", key)
		}
		s.put(t, key, "of "+key)
	}
	for _, key := range keys {
		s.wantObject(t, key, "of "+key)
		if got, err := s.Stat(t.Context(), key); err != nil || got.Key != key {
			t.Errorf("stat %q: got %q, %v", key, got.Key, err)
		}
	}
	slices.Sort(keys)
	s.wantKeys(t, "", keys...)
	for _, key := range keys {
		wantErr(t, s.Delete(t.Context(), key), nil)
	}
	s.wantKeys(t, "")
}

func (s suite) wantKeys(t *testing.T, prefix string, want ...string) {
	t.Helper()
	var got []string
	for object, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list %q: %v", prefix, err)
		}
		got = append(got, object.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list %q (-want +got):\n%s", prefix, diff)
	}
}
