package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// record is what a reader of the bucket relies on in a result.json.
type record struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Attempt struct {
		ID string `json:"id"`
	} `json:"attempt"`
	Images []struct {
		Key    string `json:"key"`
		SHA256 string `json:"sha256"`
		Bytes  int    `json:"bytes"`
	} `json:"images"`
}

// store reads the bucket.
type store struct {
	client         *minio.Client
	bucket, prefix string
	secrets        string
}

func openStore(o options) (*store, error) {
	at, err := url.Parse(o.store)
	if err != nil || at.User == nil {
		return nil, errors.New("the store is http://key:secret@host:port/bucket")
	}
	secret, _ := at.User.Password()
	client, err := minio.New(at.Host, &minio.Options{
		Creds: credentials.NewStaticV4(at.User.Username(), secret, ""), Secure: at.Scheme == "https", Region: "us-east-1",
	})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &store{client: client, bucket: strings.Trim(at.Path, "/"), secrets: o.secrets}
	if o.prefix != "" {
		s.prefix = strings.Trim(o.prefix, "/") + "/"
	}
	return s, nil
}

// audit reads every object, and returns the states that the records of the
// expected jobs tell.
func (s *store) audit(ctx context.Context, r *report, expected []expectation) (map[string]string, error) {
	objects := map[string][]byte{}
	for object := range s.client.ListObjects(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix, Recursive: true}) {
		if object.Err != nil {
			return nil, fmt.Errorf("list: %w", object.Err)
		}
		data, err := s.read(ctx, object.Key)
		if err != nil {
			return nil, err
		}
		objects[strings.TrimPrefix(object.Key, s.prefix)] = data
		if s.secrets != "" && bytes.Contains(data, []byte(s.secrets)) {
			r.add(told, 1, "object %s", object.Key)
		}
	}
	states := map[string]string{}
	known := map[string]bool{}
	for _, want := range expected {
		states[want.ID] = auditJob(r, objects, want, known)
	}
	for key := range objects {
		switch {
		case known[key]:
		case strings.HasPrefix(key, "inputs/"):
			r.add(inputs, 1, "%s", key)
		default:
			r.add(unreferenced, 1, "%s", key)
		}
	}
	return states, nil
}

func (s *store) read(ctx context.Context, key string) ([]byte, error) {
	object, err := s.client.GetObject(ctx, s.bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	defer object.Close()
	data, err := io.ReadAll(object)
	if err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	return data, nil
}

// auditJob checks one job, and marks what belongs to it as known.
func auditJob(r *report, objects map[string][]byte, want expectation, known map[string]bool) (state string) {
	key := "results/" + want.ID + "/result.json"
	data, there := objects[key]
	if !there {
		r.add(lost, 1, "%s has no record", want.ID)
		return ""
	}
	known[key] = true
	var got record
	if err := json.Unmarshal(data, &got); err != nil {
		r.add(lost, 1, "%s has a record that cannot be read: %v", want.ID, err)
		return ""
	}
	if got.ID != want.ID || got.State != want.State || len(got.Images) != len(want.Images) {
		r.add(wrong, 1, "%s is %s with %d images, not %s with %d: %s", want.ID, got.State, len(got.Images), want.State, len(want.Images), data)
	}
	for i, image := range got.Images {
		known[image.Key] = true
		if !strings.HasPrefix(image.Key, "results/"+want.ID+"/"+got.Attempt.ID+"-") {
			r.add(wrong, 1, "%s: image %d is not of the attempt that committed: %s", want.ID, i, image.Key)
		}
		content, there := objects[image.Key]
		if !there {
			r.add(lost, 1, "%s: image %d is not there", want.ID, i)
			continue
		}
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		if digest != image.SHA256 || len(content) != image.Bytes {
			r.add(wrong, 1, "%s: image %d is not what its record says", want.ID, i)
		}
		if i < len(want.Images) && digest != want.Images[i].SHA256 {
			r.add(wrong, 1, "%s: image %d is another picture", want.ID, i)
		}
	}
	deletions := "results/" + want.ID + "/deleted.json"
	if _, there := objects[deletions]; !there {
		r.add(lost, 1, "%s does not tell what was deleted", want.ID)
	}
	known[deletions] = true
	return got.State
}

// auditJournal looks for outcomes that were visible and replaced: the store
// must have accepted one record of a job, and only one.
func auditJournal(r *report, o options, expected []expectation) error {
	if o.journal == "" {
		return nil
	}
	type request struct {
		Method string `json:"method"`
		Path   string `json:"path"`
		Status int    `json:"status"`
	}
	journal, err := lines[request](o.journal)
	if err != nil {
		return err
	}
	accepted := map[string]int{}
	for _, q := range journal {
		if strings.HasSuffix(q.Path, "/result.json") && q.Status < http.StatusMultipleChoices && (q.Method == http.MethodPut || q.Method == http.MethodDelete) {
			accepted[q.Path]++
		}
	}
	for _, want := range expected {
		n := 0
		for path, times := range accepted {
			if strings.HasSuffix(path, "/results/"+want.ID+"/result.json") {
				n += times
			}
		}
		switch {
		case n > 1:
			r.add(duplicate, 1, "%s: the store accepted %d records", want.ID, n)
		case n == 0:
			r.add(wrong, 1, "%s: the journal has no record", want.ID)
		}
	}
	return nil
}
