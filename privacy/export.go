package privacy

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/storage"
)

// Manifest is the last file of an export: what is in it.
type Manifest struct {
	Version int           `json:"version"`
	Kind    string        `json:"kind"` // export
	Created time.Time     `json:"created_at"`
	Worker  string        `json:"worker"`
	Jobs    []ExportedJob `json:"jobs"`
	Files   []File        `json:"files"`
	// Unreadable are jobs in the queues of which nobody can tell whose they are.
	Unreadable int `json:"unreadable_queue_entries,omitempty"`
}

// ExportedJob is a job of the subject.
type ExportedJob struct {
	ID string `json:"id"`
	// State is queued or running for a job that has no record yet.
	State job.State `json:"state"`
	// Problem says what of it could not be had.
	Problem string `json:"problem,omitempty"`
}

// File is a file of the export.
type File struct {
	Name   string `json:"name"` // the key in the storage
	Job    string `json:"job"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// ManifestName is the manifest's file name.
const ManifestName = "manifest.json"

// maxObject bounds what is exported in one piece, which stands in memory once.
const maxObject = 1 << 30

// ErrIncomplete: something that should be in the export could not be had; the
// manifest says what.
var ErrIncomplete = errors.New("the export is not complete")

// Export writes everything of the subject's as a tar: photos and masks that
// are still there, images, records, what waits in the queues, and the manifest.
// It holds one object in memory at a time. A job that ends meanwhile may be
// there as running.
func (r *Rights) Export(ctx context.Context, subject string, w io.Writer) (Manifest, error) {
	jobs, unreadable, err := r.find(ctx, subject)
	if err != nil {
		return Manifest{}, err
	}
	e := &export{
		Rights: r, tar: tar.NewWriter(w), written: map[string]bool{},
		manifest: Manifest{
			Version: job.Version, Kind: "export", Created: time.Now().UTC().Truncate(time.Second), Worker: r.o.Version,
			Jobs: []ExportedJob{}, Files: []File{}, Unreadable: len(unreadable),
		},
	}
	complete := len(unreadable) == 0
	for _, id := range slices.Sorted(maps.Keys(jobs)) {
		out, err := e.job(ctx, jobs[id])
		if err != nil {
			return e.manifest, fmt.Errorf("export job %s: %w", id, err)
		}
		complete = complete && out.Problem == ""
		e.manifest.Jobs = append(e.manifest.Jobs, out)
	}
	data, err := json.MarshalIndent(e.manifest, "", "  ")
	if err != nil {
		return e.manifest, fmt.Errorf("encode manifest: %w", err)
	}
	if err := e.put(ManifestName, data); err != nil {
		return e.manifest, err
	}
	if err := e.tar.Close(); err != nil {
		return e.manifest, fmt.Errorf("end the export: %w", err)
	}
	if !complete {
		return e.manifest, ErrIncomplete
	}
	return e.manifest, nil
}

// export is one call of Export.
type export struct {
	*Rights

	tar      *tar.Writer
	written  map[string]bool
	manifest Manifest
}

func (e *export) job(ctx context.Context, f *found) (ExportedJob, error) {
	out := ExportedJob{ID: f.id, State: job.Queued}
	data, err := e.o.Bucket.Get(ctx, storage.RecordKey(f.id), storage.MaxRecord)
	switch {
	case err == nil:
		if err := e.file(f.id, storage.RecordKey(f.id), data); err != nil {
			return out, err
		}
		record, err := job.DecodeRecord(data)
		if err != nil {
			out.State, out.Problem = job.Failed, "the record cannot be read"
			break
		}
		out.State = record.State
		if err := e.images(ctx, record, &out); err != nil {
			return out, err
		}
	case errors.Is(err, storage.ErrNotFound):
		if f.queued != nil && f.queued.Active {
			out.State = job.Running
		}
		if f.queued != nil && !f.queued.Unreadable {
			data, err := json.MarshalIndent(f.queued.Job, "", "  ")
			if err != nil {
				return out, fmt.Errorf("encode job: %w", err)
			}
			if err := e.file(f.id, "jobs/"+f.id+".json", data); err != nil {
				return out, err
			}
		}
	case unreadable(err):
		out.State, out.Problem = job.Failed, "the record cannot be read"
	default:
		return out, err
	}
	for _, key := range append([]string{storage.DeletionsKey(f.id)}, f.inputs...) {
		if _, err := e.object(ctx, f.id, key, &out); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return out, err
		}
	}
	return out, nil
}

// images exports the images that the record names. All others are of attempts
// that came to nothing.
func (e *export) images(ctx context.Context, r *job.Record, out *ExportedJob) error {
	for _, image := range r.Images {
		sum, err := e.object(ctx, r.ID, image.Key, out)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			out.Problem = "an image that the record names is not there"
		case err != nil:
			return err
		case sum != "" && sum != image.SHA256:
			out.Problem = "an image is not the one that the record names"
		}
	}
	return nil
}

// object exports one object, once, and gives its digest, "" if it was exported
// before. What cannot be read is a problem of the job and no error.
func (e *export) object(ctx context.Context, id, key string, out *ExportedJob) (sum string, err error) {
	if e.written[key] {
		return "", nil
	}
	data, err := e.o.Bucket.Get(ctx, key, maxObject)
	if unreadable(err) {
		out.Problem = "an object cannot be read"
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if err := e.file(id, key, data); err != nil {
		return "", err
	}
	return e.manifest.Files[len(e.manifest.Files)-1].SHA256, nil
}

func unreadable(err error) bool {
	return errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrUnreadable) || errors.Is(err, storage.ErrTooLarge)
}

func (e *export) file(id, name string, data []byte) error {
	if err := e.put(name, data); err != nil {
		return err
	}
	digest := sha256.Sum256(data)
	e.written[name] = true
	e.manifest.Files = append(e.manifest.Files, File{Name: name, Job: id, SHA256: hex.EncodeToString(digest[:]), Bytes: int64(len(data))})
	return nil
}

func (e *export) put(name string, data []byte) error {
	header := &tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: e.manifest.Created, Format: tar.FormatPAX}
	err := e.tar.WriteHeader(header)
	if err == nil {
		_, err = e.tar.Write(data)
	}
	if err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}
