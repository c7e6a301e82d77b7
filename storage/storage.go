// Package storage is the contract of object storage: what a bucket can do, the
// errors it gives, and every key under which the worker keeps something.
package storage

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Errors of a Bucket. Match them with errors.Is.
var (
	// ErrNotFound: no object has the key.
	ErrNotFound = errors.New("no such object")
	// ErrExists: an object with the key was there first.
	ErrExists = errors.New("the object exists already")
	// ErrTooLarge: the object is larger than the caller's limit.
	ErrTooLarge = errors.New("the object is too large")
	// ErrCorrupt: the bytes do not have the checksum they were stored with.
	ErrCorrupt = errors.New("the object's checksum does not match")
	// ErrUnreadable: this one object cannot be read as it is stored (archived,
	// encrypted with a key of its own, without the right to read it); trying
	// again is of no use.
	ErrUnreadable = errors.New("the object cannot be read")
	// ErrUnavailable: the storage is away or refuses for now; try again later.
	ErrUnavailable = errors.New("the storage is unavailable")
	// ErrUnfit: the storage lacks what the worker's promises rest on; another
	// must be configured.
	ErrUnfit = errors.New("the storage is unfit")
)

// Bucket holds objects by key. Keys are relative to the bucket's configured
// prefix, slash-separated, clean paths; a bucket may refuse to put others. A
// Bucket is safe for concurrent use. When ctx is done, errors match ctx.Err().
// Error texts never contain a key, since a key can hold a user's file name.
type Bucket interface {
	// Get returns the object's bytes, of which there may be at most limit.
	// Errors: ErrNotFound, ErrTooLarge (found out before the bytes are
	// fetched), ErrCorrupt, ErrUnreadable, ErrUnavailable.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)

	// Put stores the bytes, whole or not at all, with their SHA-256.
	Put(ctx context.Context, key string, data []byte, opts PutOptions) error

	// PutIfAbsent is Put unless an object has the key: then ErrExists. Of two
	// at once exactly one wins. When the answer was lost ErrUnavailable is
	// returned although the object may be there: read it to find out.
	PutIfAbsent(ctx context.Context, key string, data []byte, opts PutOptions) error

	// Delete removes the object for good, with all versions of it where the
	// store keeps any; it is no error if there is none.
	Delete(ctx context.Context, key string) error

	// Stat describes the object. Errors: ErrNotFound, ErrUnavailable.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields the objects whose keys begin with prefix, in the order of
	// their keys. After an error the sequence ends.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// Versions yields everything that the store keeps under keys that begin with
	// prefix: the objects, earlier versions of them, and marks of deletion. After
	// an error the sequence ends.
	Versions(ctx context.Context, prefix string) iter.Seq2[Version, error]

	// Remove removes one version for good; it is no error if it is gone.
	Remove(ctx context.Context, v Version) error

	// Check reports whether the bucket can be reached and used, and refuses a
	// store on which PutIfAbsent does not hold with ErrUnfit: unless its error
	// matches ErrUnavailable there is no use in trying again.
	Check(ctx context.Context) error
}

// PutOptions travel with an object. Every object is put with
// "Cache-Control: private, no-store" and without user metadata.
type PutOptions struct {
	ContentType string
}

// Object describes a stored object.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Version is one of the versions of an object.
type Version struct {
	Object

	// ID names the version, "" in a store that keeps one only.
	ID string
	// Current: it is what Get returns, or the mark because of which there is
	// nothing to return.
	Current bool
	// Deleted: it is no object but a mark that there is none.
	Deleted bool
}
