package privacy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/imgus/worker/storage"
)

// Tally counts things and has a digest of which they were: SHA-256 over the
// sorted lines HMAC-SHA256(subject key, name) in hex, each ended by a newline. It
// tells nobody a name; who has the key and a list of names can compare.
type Tally struct {
	Count  int    `json:"count"`
	Digest string `json:"digest"`
}

// tally notes what an erasure does. It is safe for concurrent use.
type tally struct {
	key []byte

	mu               sync.Mutex
	jobs, objects    []string // as HMACs
	bytes            int64
	uploads, entries int
}

func newTally(key []byte) *tally { return &tally{key: key} }

func (t *tally) hide(name string) string {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil))
}

func (t *tally) job(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.jobs = append(t.jobs, t.hide(id))
}

func (t *tally) object(v storage.Version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects = append(t.objects, t.hide(v.Key+"\n"+v.ID))
	t.bytes += v.Size
}

func (t *tally) upload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uploads++
}

func (t *tally) entry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries++
}

// count is how much was done, to see whether a pass did anything.
func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.objects) + t.uploads + t.entries
}

func sum(hidden []string) Tally {
	slices.Sort(hidden)
	hash := sha256.New()
	for _, line := range hidden {
		fmt.Fprintln(hash, line)
	}
	return Tally{Count: len(hidden), Digest: "sha256:" + hex.EncodeToString(hash.Sum(nil))}
}
