package storage

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/imgus/worker/job"
)

// InputPrefix is the producers' part of the bucket: the only keys that a job
// may name as its input.
const InputPrefix = "inputs/"

// ResultPrefix is the worker's part of the bucket.
const ResultPrefix = "results/"

// SubjectPrefix is the index of the jobs of each subject.
const SubjectPrefix = "subjects/"

// HoldPrefix is where it stands whose jobs wait.
const HoldPrefix = "holds/"

// ProbePrefix is where the storage is tried.
const ProbePrefix = "probe/"

// MaxRecord bounds a record that is read back, in bytes.
const MaxRecord = 1 << 20

// InputKey is where worker enqueue puts a job's photo or mask; what is
// "input" or "mask".
func InputKey(id, what string) string { return InputPrefix + id + "/" + what }

// InputsOf is the prefix of what InputKey gives for a job.
func InputsOf(id string) string { return InputPrefix + id + "/" }

// ValidInputKey reports whether a job may name key as its input: a clean path
// under InputPrefix.
func ValidInputKey(key string) bool {
	return len(key) <= 512 && len(key) > len(InputPrefix) && strings.HasPrefix(key, InputPrefix) &&
		path.Clean(key) == key && !strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' })
}

// ResultsOf is the prefix of everything that a job leaves behind.
func ResultsOf(id string) string { return ResultPrefix + id + "/" }

// ImagesOf is the prefix of one attempt's images. An attempt deletes only
// what has this prefix, so it never touches a winner's image.
func ImagesOf(id, attempt string) string { return ResultsOf(id) + attempt + "-" }

// ImageKey is where an attempt puts its image n, which counts from zero.
func ImageKey(id, attempt string, n int, format job.Format) string {
	return fmt.Sprintf("%s%d.%s", ImagesOf(id, attempt), n, format.Extension())
}

// RecordKey is where the record of a job stands. Putting it is the commit.
func RecordKey(id string) string { return ResultsOf(id) + "result.json" }

// DeletionsKey is where it stands what was deleted after the commit.
func DeletionsKey(id string) string { return ResultsOf(id) + "deleted.json" }

// ProbeKey is a key of its own for each call of Probe.
func ProbeKey() string { return ProbePrefix + rand.Text() }

// Pseudonym is what a subject is called in keys: hex HMAC-SHA256(key, subject),
// so that nobody who lacks the key can tell whose it is.
func Pseudonym(key []byte, subject string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(subject))
	return hex.EncodeToString(mac.Sum(nil))
}

// InputMark stands for an input's key where the key itself shall not stand.
func InputMark(key []byte, input string) string { return Pseudonym(key, "input\n"+input) }

// SubjectJobs is the prefix of a subject's index; each key ends in a job's id.
func SubjectJobs(pseudonym string) string { return SubjectPrefix + pseudonym + "/" }

// SubjectKey is the entry of a job in its subject's index.
func SubjectKey(pseudonym, id string) string { return SubjectJobs(pseudonym) + id }

// HoldKey is where it stands that the subject's jobs wait.
func HoldKey(pseudonym string) string { return HoldPrefix + pseudonym }
