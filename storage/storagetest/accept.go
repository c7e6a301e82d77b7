// Package storagetest has the one suite that every bucket passes, a bucket in
// memory, and faults.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imgus/worker/storage"
)

// Accept tests a bucket against the contract. open returns an empty bucket that
// nothing else uses, each time another one. leftOut names tests that a store is
// known to fail through no fault of the bucket's.
func Accept(t *testing.T, open func(t *testing.T) storage.Bucket, leftOut ...string) {
	for name, test := range map[string]func(suite, *testing.T){
		"missing":      suite.missing,
		"put and get":  suite.putAndGet,
		"limit":        suite.limit,
		"if absent":    suite.ifAbsent,
		"race":         suite.race,
		"overwriting":  suite.overwriting,
		"folders":      suite.folders,
		"stat":         suite.stat,
		"list":         suite.list,
		"long list":    suite.longList,
		"strange keys": suite.strangeKeys,
		"versions":     suite.versions,
		"cancelled":    suite.cancelled,
		"check":        suite.check,
	} {
		if !slices.Contains(leftOut, name) {
			t.Run(name, func(t *testing.T) { test(suite{open(t)}, t) })
		}
	}
}

// suite tests one bucket. Its keys begin with inputs/ or results/.
type suite struct{ storage.Bucket }

const enough = 16 << 20 // a limit that no object of the suite reaches

func (s suite) missing(t *testing.T) {
	ctx := t.Context()
	s.wantMissing(t, "inputs/none")
	wantErr(t, s.Delete(ctx, "inputs/none"), nil)

	// A folder is no object, nor is an object a folder.
	s.put(t, "inputs/a/b", "1")
	s.wantMissing(t, "inputs/a")
	s.wantMissing(t, "inputs/a/b/c")
	wantErr(t, s.Delete(ctx, "inputs/a"), nil)
	wantErr(t, s.Delete(ctx, "inputs/a/b/c"), nil)
	s.wantObject(t, "inputs/a/b", "1")
}

func (s suite) putAndGet(t *testing.T) {
	large := make([]byte, 5<<20)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	for name, data := range map[string]string{"empty": "", "one": "x", "binary": "\x00\r\n\xff", "large": string(large)} {
		key := "results/1/" + name
		s.put(t, key, data)
		s.wantObject(t, key, data)
		wantErr(t, s.PutIfAbsent(t.Context(), key+".new", []byte(data), storage.PutOptions{ContentType: "image/png"}), nil)
		s.wantObject(t, key+".new", data)
		s.put(t, key, "another")
		s.wantObject(t, key, "another")
		for _, key := range []string{key, key + ".new"} {
			wantErr(t, s.Delete(t.Context(), key), nil)
			wantErr(t, s.Delete(t.Context(), key), nil)
			s.wantMissing(t, key)
		}
	}
}

func (s suite) limit(t *testing.T) {
	for size, data := range []string{"", "1", "12"} {
		key := fmt.Sprint("inputs/", size)
		s.put(t, key, data)
		for limit := range 4 {
			got, err := s.Get(t.Context(), key, int64(limit))
			if limit < size {
				wantErr(t, err, storage.ErrTooLarge)
			} else if err != nil || string(got) != data {
				t.Errorf("size %d, limit %d: got %q, %v", size, limit, got, err)
			}
		}
	}
}

func (s suite) ifAbsent(t *testing.T) {
	ctx := t.Context()
	wantErr(t, s.PutIfAbsent(ctx, "results/1/result.json", []byte("first"), storage.PutOptions{}), nil)
	wantErr(t, s.PutIfAbsent(ctx, "results/1/result.json", []byte("second"), storage.PutOptions{}), storage.ErrExists)
	wantErr(t, s.PutIfAbsent(ctx, "results/1/result.json", []byte("first"), storage.PutOptions{}), storage.ErrExists)
	s.wantObject(t, "results/1/result.json", "first")
	wantErr(t, s.Delete(ctx, "results/1/result.json"), nil)
	wantErr(t, s.PutIfAbsent(ctx, "results/1/result.json", []byte("third"), storage.PutOptions{}), nil)
	s.wantObject(t, "results/1/result.json", "third")
}

// race: of 32 at once exactly one wins, and it is the winner's object that stays.
func (s suite) race(t *testing.T) {
	for round := range 4 {
		key := fmt.Sprintf("results/%d/result.json", round)
		var winners atomic.Int64
		var winner atomic.Value
		var group errgroup.Group
		for i := range 32 {
			data := fmt.Sprint("by ", i, strings.Repeat(".", i*100))
			group.Go(func() error {
				err := s.PutIfAbsent(t.Context(), key, []byte(data), storage.PutOptions{ContentType: "application/json"})
				if err == nil {
					winners.Add(1)
					winner.Store(data)
				} else if !errors.Is(err, storage.ErrExists) {
					return err
				}
				// Whoever comes back finds the object, whole.
				if _, err := s.Get(t.Context(), key, enough); err != nil {
					return fmt.Errorf("after the race: %w", err)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if winners.Load() != 1 {
			t.Fatalf("%d of 32 won", winners.Load())
		}
		s.wantObject(t, key, winner.Load().(string))
	}
}

// overwriting: a reader sees one object or the other, never a mixture or none.
func (s suite) overwriting(t *testing.T) {
	versions := [2]string{strings.Repeat("a", 100_000), strings.Repeat("b", 50_000)}
	s.put(t, "results/1/result.json", versions[0])
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				got, err := s.Get(t.Context(), "results/1/result.json", enough)
				if err != nil || string(got) != versions[0] && string(got) != versions[1] {
					t.Errorf("got %d bytes, %v", len(got), err)
					return
				}
			}
		})
	}
	for i := range 50 {
		s.put(t, "results/1/result.json", versions[i%2])
	}
	cancel()
	readers.Wait()
}

// folders: putting and deleting neighbours at once loses none of them.
func (s suite) folders(t *testing.T) {
	var group errgroup.Group
	for i := range 8 {
		key := fmt.Sprint("inputs/deep/er/", i)
		group.Go(func() error {
			for range 25 {
				if err := s.Put(t.Context(), key, []byte(key), storage.PutOptions{}); err != nil {
					return err
				}
				if got, err := s.Get(t.Context(), key, enough); err != nil || string(got) != key {
					return fmt.Errorf("got %q, %w", got, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	s.wantKeys(t, "")
}

func (s suite) stat(t *testing.T) {
	before := time.Now()
	s.put(t, "results/1/a", "12345")
	got, err := s.Stat(t.Context(), "results/1/a")
	wantErr(t, err, nil)
	if got.Key != "results/1/a" || got.Size != 5 {
		t.Errorf("got %+v", got)
	}
	if age := got.Modified.Sub(before); age < -time.Minute || age > time.Minute {
		t.Errorf("modified %v after it was put", age)
	}
	for listed, err := range s.List(t.Context(), "") {
		if err != nil || listed.Key != got.Key || listed.Size != got.Size || listed.Modified.Sub(got.Modified).Abs() > time.Second {
			t.Errorf("listed %+v, %v, stat %+v", listed, err, got)
		}
	}
}

func (s suite) cancelled(t *testing.T) {
	s.put(t, "inputs/1", "1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "inputs/1", enough)
	wantErr(t, err, context.Canceled)
	_, err = s.Stat(ctx, "inputs/1")
	wantErr(t, err, context.Canceled)
	wantErr(t, s.Put(ctx, "inputs/2", []byte("2"), storage.PutOptions{}), context.Canceled)
	wantErr(t, s.PutIfAbsent(ctx, "inputs/2", []byte("2"), storage.PutOptions{}), context.Canceled)
	wantErr(t, s.Delete(ctx, "inputs/1"), context.Canceled)
	wantErr(t, s.Remove(ctx, storage.Version{Object: storage.Object{Key: "inputs/1"}}), context.Canceled)
	wantErr(t, s.Check(ctx), context.Canceled)
	yields := 0
	for _, err := range s.List(ctx, "") {
		wantErr(t, err, context.Canceled)
		yields++
	}
	if yields != 1 {
		t.Errorf("a cancelled list yields %d times", yields)
	}
	s.wantKeys(t, "", "inputs/1")
}

func (s suite) check(t *testing.T) {
	s.put(t, "inputs/1", "1")
	wantErr(t, s.Check(t.Context()), nil)
	s.wantKeys(t, "", "inputs/1")
}

// What follows serves the tests.

func (s suite) put(t *testing.T, key, data string) {
	t.Helper()
	if err := s.Put(t.Context(), key, []byte(data), storage.PutOptions{ContentType: "application/octet-stream"}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func (s suite) wantObject(t *testing.T, key, data string) {
	t.Helper()
	got, err := s.Get(t.Context(), key, enough)
	if err != nil || !bytes.Equal(got, []byte(data)) {
		t.Errorf("get %q: got %d bytes, %v, want %d bytes", key, len(got), err, len(data))
	}
}

func (s suite) wantMissing(t *testing.T, key string) {
	t.Helper()
	_, err := s.Get(t.Context(), key, enough)
	wantErr(t, err, storage.ErrNotFound)
	_, err = s.Stat(t.Context(), key)
	wantErr(t, err, storage.ErrNotFound)
}

// wantErr tests for an error that tells no key.
func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
	if err != nil && (strings.Contains(err.Error(), "inputs") || strings.Contains(err.Error(), "results")) {
		t.Errorf("the error tells a key: %v", err)
	}
}
