// Package seal is the sealed form of a job's payload, so that nobody who may
// read Redis, its files or its backups reads a prompt: AES-256-GCM of the job's
// JSON. docs/wire-format.md describes it for other languages, and
// testdata/vectors.json has examples.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/imgus/worker/job"
)

// MaxPayload is the largest payload: a sealed job of job.MaxPayload bytes, with
// room for encoders that write / as \/ and indent.
const MaxPayload = 2 * job.MaxPayload

const (
	version   = 1
	nonceSize = 12
	tagSize   = 16
)

var (
	// ErrNoKey: a key is not among the keys, or cannot be read. It may come.
	ErrNoKey = errors.New("the key is not here")
	// ErrShut: a key does not open what is said to be sealed with it. Either that
	// was changed, or one of the two keys of the same id is the wrong one.
	ErrShut = errors.New("the key does not open the box")
)

// envelope is a sealed payload.
type envelope struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Sealed  *box   `json:"sealed"`
}

type box struct {
	Key   string `json:"key"`
	Nonce []byte `json:"nonce"` // base64 with padding, as encoding/json has it
	Box   []byte `json:"box"`   // the ciphertext, and behind it the tag
}

// Keys are the keys of a folder. The zero value has none, seals nothing, and
// opens what is not sealed.
type Keys struct {
	// Directory has one file for each key: its name is the key's id, and in it
	// stand 32 bytes in base64 (openssl rand -base64 32). A file is read whenever
	// its key is needed, so that keys come and go without a restart.
	Directory string
	// Key is the id of the key to seal with; with none, payloads stay as they are.
	Key string
	// Required refuses payloads that are not sealed.
	Required bool
}

// Seal encrypts a job's JSON for its queue and id, unless no key is chosen.
func (k Keys) Seal(payload []byte, queue, id string) ([]byte, error) {
	if k.Key == "" {
		if k.Required {
			return nil, errors.New("seal job: no key is chosen to seal with (seal.key)")
		}
		return payload, nil
	}
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	return k.sealWith(nonce, payload, queue, id)
}

func (k Keys) sealWith(nonce, payload []byte, queue, id string) ([]byte, error) {
	gcm, err := k.cipher(k.Key)
	if err != nil {
		return nil, fmt.Errorf("seal job: %w", err)
	}
	sealed, err := json.Marshal(envelope{version, id, &box{k.Key, nonce, gcm.Seal(nil, nonce, payload, about(queue, id))}})
	if err != nil {
		return nil, fmt.Errorf("seal job: %w", err)
	}
	return sealed, nil
}

// Open gives a job's JSON: what was sealed for this queue and id, or a payload
// that is not sealed as it is. Errors are ErrNoKey, and *job.Error with code
// invalid_job, which is ErrShut where another key might do better. A payload
// that should have been sealed is given along with its error: whose it is, and
// what is to be deleted with it, can be read all the same.
func (k Keys) Open(payload []byte, queue, id string) ([]byte, error) {
	if len(payload) > MaxPayload {
		return nil, job.Errorf(job.InvalidJob, "the payload must be at most %d bytes", MaxPayload)
	}
	outer := fields(payload)
	if _, sealed := outer["sealed"]; !sealed {
		if k.Required {
			return payload, job.Errorf(job.InvalidJob, "the job must be sealed: this worker takes no other (seal.required)")
		}
		return payload, nil
	}
	b, err := parse(outer, id)
	if err != nil {
		return nil, err
	}
	gcm, err := k.cipher(b.Key)
	if err != nil {
		return nil, err
	}
	opened, err := gcm.Open(nil, b.Nonce, b.Box, about(queue, id))
	if err != nil {
		return nil, job.Wrap(job.InvalidJob, fmt.Errorf("key %s: %w", b.Key, ErrShut), "sealed: the box cannot be opened: it was changed, or sealed with another key or for another queue or id")
	}
	return opened, nil
}

// KeyOf gives the id of the key that a payload is sealed with, "" for none.
func KeyOf(payload []byte) string {
	key, _ := text(fields(fields(payload)["sealed"])["key"])
	if !keyID.MatchString(key) {
		return ""
	}
	return key
}

// about is what a box is bound to: moved to another queue or id it cannot be
// opened.
func about(queue, id string) []byte { return []byte("imgus-job-v1\n" + queue + "\n" + id) }

func (k Keys) cipher(id string) (cipher.AEAD, error) {
	key, err := k.read(id)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", id, err)
	}
	return cipher.NewGCM(block)
}

// fields are those of a JSON object, by their exact names, which encoding/json
// alone does not insist on; none of what is no object.
func fields(data []byte) map[string]json.RawMessage {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(data, &fields) // leaves it empty
	return fields
}

// parse reads an envelope, which has these fields and no others. Of a field that
// is there twice the last counts; the box tells whether it was the right one.
func parse(outer map[string]json.RawMessage, id string) (box, error) {
	wrong := func(what string) (box, error) { return box{}, job.Errorf(job.InvalidJob, "%s", what) }
	inner := fields(outer["sealed"])
	given, named := text(outer["id"])
	switch key, isKey := text(inner["key"]); {
	case len(outer) != 3 || outer["version"] == nil || !named:
		return wrong("a sealed job must have version, id and sealed, and nothing else")
	case string(outer["version"]) != strconv.Itoa(version):
		return wrong("version: must be 1")
	case given != id:
		return wrong("id: must be the id of the task")
	case len(inner) != 3 || inner["key"] == nil || inner["nonce"] == nil || inner["box"] == nil:
		return wrong("sealed: must have key, nonce and box, and nothing else")
	case !isKey || !keyID.MatchString(key):
		return wrong("sealed.key: must be the id of a key")
	default:
		nonce, ok := decode(inner["nonce"])
		if !ok || len(nonce) != nonceSize {
			return wrong("sealed.nonce: must be 12 bytes in base64")
		}
		content, ok := decode(inner["box"])
		if !ok || len(content) < tagSize {
			return wrong("sealed.box: must be base64")
		}
		return box{key, nonce, content}, nil
	}
}

func text(raw json.RawMessage) (s string, ok bool) {
	if !bytes.HasPrefix(raw, []byte(`"`)) {
		return "", false
	}
	return s, json.Unmarshal(raw, &s) == nil
}

func decode(raw json.RawMessage) ([]byte, bool) {
	s, ok := text(raw)
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	return data, ok && err == nil
}
