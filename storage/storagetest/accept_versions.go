package storagetest

import (
	"testing"

	"github.com/imgus/worker/storage"
)

// versions: what a store keeps of earlier objects can be seen and removed, and
// a deletion leaves nothing.
func (s suite) versions(t *testing.T) {
	ctx := t.Context()
	for _, data := range []string{"first", "second", "third"} {
		s.put(t, "results/1/result.json", data)
	}
	s.put(t, "results/1/result.json.neighbour", "1")
	s.put(t, "results/10", "1")
	current := 0
	for _, v := range s.listVersions(t, "results/1/") {
		if v.Deleted || v.Size == 0 || v.Modified.IsZero() {
			t.Errorf("got %+v", v)
		}
		if v.Current {
			current++
			continue
		}
		if v.Key != "results/1/result.json" {
			t.Errorf("an earlier version of %s", v.Key)
		}
		for range 2 { // somebody else may have done it
			wantErr(t, s.Remove(ctx, v), nil)
		}
	}
	if left := s.listVersions(t, "results/1/"); current != 2 || len(left) != 2 {
		t.Errorf("%d current versions, %d left", current, len(left))
	}
	s.wantObject(t, "results/1/result.json", "third")

	s.put(t, "results/1/result.json", "fourth")
	for range 2 {
		wantErr(t, s.Delete(ctx, "results/1/result.json"), nil)
	}
	s.wantMissing(t, "results/1/result.json")
	// A neighbour, whose key goes on, stays, and does not keep this one.
	left := s.listVersions(t, "results/1/")
	if len(left) != 1 || left[0].Key != "results/1/result.json.neighbour" {
		t.Errorf("a deletion left %+v", left)
	}
	wantErr(t, s.PutIfAbsent(ctx, "results/1/result.json", []byte("fifth"), storage.PutOptions{}), nil)
	wantErr(t, s.Remove(ctx, left[0]), nil)
	s.wantKeys(t, "", "results/1/result.json", "results/10")
}

func (s suite) listVersions(t *testing.T, prefix string) (all []storage.Version) {
	t.Helper()
	for v, err := range s.Versions(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("list versions: %v", err)
		}
		all = append(all, v)
	}
	return all
}
