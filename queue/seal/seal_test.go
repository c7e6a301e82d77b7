package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue/seal"
)

const plain = `{"version":1,"id":"a","kind":"text-to-image","model":"demo","prompt":"a very private prompt"}`

// folder makes a folder of keys, each of 32 equal bytes.
func folder(t testing.TB, ids ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, id := range ids {
		write(t, dir, id, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(i + 1)}, 32))+"\n")
	}
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sealed(t testing.TB, k seal.Keys, payload string) []byte {
	t.Helper()
	out, err := k.Seal([]byte(payload), "interactive", "a")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func invalid(err error) bool { return err != nil && job.AsError(err).Code == job.InvalidJob }

func TestRoundTrip(t *testing.T) {
	keys := seal.Keys{Directory: folder(t, "2026-11"), Key: "2026-11"}
	rapid.Check(t, func(t *rapid.T) {
		payload := []byte(rapid.String().Draw(t, "payload"))
		queue, id := rapid.StringMatching(`[a-z0-9_-]{1,20}`).Draw(t, "queue"), rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`).Draw(t, "id")
		box, err := keys.Seal(payload, queue, id)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := keys.Open(box, queue, id)
		if err != nil || !bytes.Equal(opened, payload) {
			t.Fatalf("%q, %v", opened, err)
		}
		if len(payload) > 3 && bytes.Contains(box, payload) {
			t.Fatal("it is not encrypted")
		}
	})
	if a, b := sealed(t, keys, plain), sealed(t, keys, plain); bytes.Equal(a, b) {
		t.Error("the nonce is not random")
	}
}

// The largest job is not too large when it is sealed.
func TestLargest(t *testing.T) {
	id := "k" + strings.Repeat("x", 63)
	keys := seal.Keys{Directory: folder(t, id), Key: id}
	content := make([]byte, job.MaxPayload)
	box, err := keys.Seal(content, "interactive", id)
	if err != nil || len(box) > seal.MaxPayload {
		t.Fatalf("%d bytes, %v", len(box), err)
	}
	// Some encoders write / so, and base64 is full of it.
	for _, form := range [][]byte{box, bytes.ReplaceAll(box, []byte("/"), []byte(`\/`))} {
		if opened, err := keys.Open(form, "interactive", id); err != nil || len(opened) != job.MaxPayload {
			t.Error(err)
		}
	}
	if _, err := keys.Open(make([]byte, seal.MaxPayload+1), "interactive", id); !invalid(err) {
		t.Errorf("more is read: %v", err)
	}
}

// Whatever bit of it is changed, a sealed job is refused, and never opened.
func TestTampering(t *testing.T) {
	keys := seal.Keys{Directory: folder(t, "k"), Key: "k"}
	box := sealed(t, keys, plain)
	for i := range box {
		for bit := range 8 {
			changed := slices.Clone(box)
			changed[i] ^= 1 << bit
			opened, err := keys.Open(changed, "interactive", "a")
			if err == nil && bytes.Contains(opened, []byte("private")) {
				t.Fatalf("byte %d: opened", i)
			}
			// One that does not look sealed any more is the job parser's to refuse.
			if err == nil && !bytes.Equal(opened, changed) || err != nil && !invalid(err) && !errors.Is(err, seal.ErrNoKey) {
				t.Fatalf("byte %d: %q, %v", i, opened, err)
			}
		}
	}
	if _, err := keys.Open(box, "batch", "a"); !invalid(err) || !errors.Is(err, seal.ErrShut) {
		t.Errorf("moved to another queue: %v", err)
	}
	if _, err := keys.Open(bytes.Replace(box, []byte(`"id":"a"`), []byte(`"id":"b"`), 1), "interactive", "b"); !invalid(err) {
		t.Errorf("moved to another id: %v", err)
	}
}

func TestWhatIsWrong(t *testing.T) {
	keys := seal.Keys{Directory: folder(t, "k"), Key: "k"}
	nonce, box := base64.StdEncoding.EncodeToString(make([]byte, 12)), base64.StdEncoding.EncodeToString(make([]byte, 20))
	with := func(sealed string) string { return `{"version":1,"id":"a","sealed":` + sealed + `}` }
	for payload, says := range map[string]string{
		`{"id":"a","sealed":{}}`:                                                 "version, id and sealed",
		`{"version":1,"sealed":{}}`:                                              "version, id and sealed",
		`{"version":"1","id":"a","sealed":{}}`:                                   "version: must be 1",
		`{"version":1,"id":"a","sealed":{},"more":1}`:                            "version, id and sealed",
		`{"version":2,"id":"a","sealed":{}}`:                                     "version: must be 1",
		`{"version":1,"id":"b","sealed":{}}`:                                     "id: must be the id of the task",
		with(`null`):                                                             "key, nonce and box",
		with(`"text"`):                                                           "key, nonce and box",
		with(`{"key":"k","nonce":"` + nonce + `"}`):                              "key, nonce and box",
		with(`{"key":"../k","nonce":"` + nonce + `","box":"` + box + `"}`):       "sealed.key",
		with(`{"key":"","nonce":"` + nonce + `","box":"` + box + `"}`):           "sealed.key",
		with(`{"key":"k","nonce":"AAAA","box":"` + box + `"}`):                   "sealed.nonce",
		with(`{"key":"k","nonce":"` + nonce + `","box":"AAAA"}`):                 "sealed.box",
		with(`{"key":"k","nonce":"` + nonce + `","box":"-_-_"}`):                 "sealed.box",
		with(`{"key":"k","nonce":"` + nonce + `","box":"` + box + `"}`):          "cannot be opened",
		with(`{"key":"k","nonce":"` + nonce + `","box":"` + box + `","more":1}`): "key, nonce and box",
	} {
		if _, err := keys.Open([]byte(payload), "interactive", "a"); !invalid(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", payload, err)
		}
	}
}

// What is not sealed is taken unless it must be.
func TestPlain(t *testing.T) {
	for _, payload := range []string{plain, "", "no json", `["sealed"]`, `{"SEALED":{}}`, `{"id":{"sealed":{}}}`} {
		opened, err := seal.Keys{}.Open([]byte(payload), "interactive", "a")
		if err != nil || string(opened) != payload {
			t.Errorf("%q: %q, %v", payload, opened, err)
		}
		opened, err = (seal.Keys{Directory: folder(t), Required: true}).Open([]byte(payload), "interactive", "a")
		if !invalid(err) || string(opened) != payload {
			t.Errorf("%q although sealing is required: %q, %v", payload, opened, err)
		}
	}
	if out := sealed(t, seal.Keys{Directory: folder(t, "k")}, plain); string(out) != plain {
		t.Errorf("sealed without being asked: %s", out)
	}
	if _, err := (seal.Keys{Directory: folder(t, "k"), Required: true}).Seal([]byte(plain), "interactive", "a"); err == nil {
		t.Error("what is required is not done, and nobody says so")
	}
}

// Keys come and go while the program runs.
func TestRotation(t *testing.T) {
	dir := folder(t, "old")
	keys := seal.Keys{Directory: dir, Key: "old"}
	first := sealed(t, keys, plain)
	keys.Key = "new"
	if _, err := keys.Seal([]byte(plain), "interactive", "a"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("sealed with a key that is not there: %v", err)
	}
	write(t, dir, "new", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32)))
	second := sealed(t, keys, plain)
	for _, box := range [][]byte{first, second} {
		if opened, err := keys.Open(box, "interactive", "a"); err != nil || string(opened) != plain {
			t.Errorf("%s, %v", opened, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Open(first, "interactive", "a"); !errors.Is(err, seal.ErrNoKey) || !strings.Contains(err.Error(), "key old") {
		t.Errorf("opened with a key that is gone: %v", err)
	}
	if _, err := (seal.Keys{}).Open(second, "interactive", "a"); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("opened without any key: %v", err)
	}
}

// The folder tells which keys it has, and of what is none; it never tells a key.
func TestFolder(t *testing.T) {
	dir := folder(t, "b", "a")
	write(t, dir, ".hidden", "no key")
	for _, name := range []string{"..data", "lost+found"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	keys, wrong, err := seal.Keys{Directory: dir}.List()
	if err != nil || wrong != nil || len(keys) != 2 || keys[0].ID != "a" || keys[1].ID != "b" || keys[0].Fingerprint == keys[1].Fingerprint || len(keys[0].Fingerprint) != 8 {
		t.Errorf("keys are %+v, %v, %v", keys, wrong, err)
	}
	if again, _, _ := (seal.Keys{Directory: folder(t, "another", "z")}).List(); again[1].Fingerprint != keys[0].Fingerprint {
		t.Error("the same key has another fingerprint elsewhere")
	}
	if keys, wrong, err := (seal.Keys{}).List(); err != nil || wrong != nil || keys != nil {
		t.Errorf("no folder has %q, %v, %v", keys, wrong, err)
	}
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	bad := map[string]string{
		"short": key[:20] + "==", "long": base64.StdEncoding.EncodeToString(make([]byte, 33)), "hex": strings.Repeat("5e", 32), "empty": "", "huge": strings.Repeat(key, 1000),
		"not a name": key,
	}
	for name, text := range bad {
		write(t, dir, name, text)
	}
	keys, wrong, err = seal.Keys{Directory: dir}.List()
	if err != nil || len(keys) != 2 || len(wrong) != len(bad) {
		t.Errorf("with files that are none: %+v, %v, %v", keys, wrong, err)
	}
	for name, text := range bad {
		if text != "" && strings.Contains(errors.Join(wrong...).Error(), text) {
			t.Errorf("%s is told: %v", name, wrong)
		}
	}
	if _, _, err := (seal.Keys{Directory: filepath.Join(dir, "none")}).List(); err == nil {
		t.Error("there is a folder that is not there")
	}
}

func TestKeyOf(t *testing.T) {
	keys := seal.Keys{Directory: folder(t, "k"), Key: "k"}
	for payload, want := range map[string]string{string(sealed(t, keys, plain)): "k", plain: "", "": "", `{"sealed":{"key":"a secret?"}}`: "", `{"sealed":{"key":5}}`: ""} {
		if got := seal.KeyOf([]byte(payload)); got != want {
			t.Errorf("%s is sealed with %q", payload, got)
		}
	}
}

// Vector is an example for other languages, in testdata/vectors.json.
type Vector struct {
	KeyID, Key, Queue, ID, Nonce, Job string
	Sealed                            json.RawMessage
}

func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []Vector
	if err := json.Unmarshal(bytes.ReplaceAll(data, []byte("key_id"), []byte("KeyID")), &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 3 {
		t.Errorf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		dir := folder(t)
		write(t, dir, v.KeyID, v.Key)
		keys := seal.Keys{Directory: dir, Key: v.KeyID, Required: true}
		opened, err := keys.Open(v.Sealed, v.Queue, v.ID)
		if err != nil || string(opened) != v.Job {
			t.Errorf("%s: opens as %q, %v", v.ID, opened, err)
		}
		nonce, err := base64.StdEncoding.DecodeString(v.Nonce)
		if err != nil {
			t.Fatal(err)
		}
		box, err := keys.SealWith(nonce, []byte(v.Job), v.Queue, v.ID)
		var want bytes.Buffer
		if compact := json.Compact(&want, v.Sealed); err != nil || compact != nil || !bytes.Equal(box, want.Bytes()) {
			t.Errorf("%s: seals as %s, %v", v.ID, box, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	keys := seal.Keys{Directory: folder(f, "k"), Key: "k"}
	f.Add(sealed(f, keys, plain))
	f.Add([]byte(plain))
	f.Add([]byte(`{"version":1,"id":"a","sealed":{"key":"k","nonce":"AAAAAAAAAAAAAAAA","box":"AAAAAAAAAAAAAAAAAAAAAA=="}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		opened, err := keys.Open(payload, "interactive", "a")
		if err != nil {
			if !invalid(err) && !errors.Is(err, seal.ErrNoKey) {
				t.Errorf("%v", err)
			}
			return
		}
		if bytes.Equal(opened, payload) {
			return // not sealed
		}
		if box := sealed(t, keys, string(opened)); len(box) > len(payload)+64 {
			t.Errorf("%d bytes were opened to %d", len(payload), len(opened))
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	keys := seal.Keys{Directory: folder(b, "k"), Key: "k"}
	box := sealed(b, keys, plain)
	for b.Loop() {
		if _, err := keys.Open(box, "interactive", "a"); err != nil {
			b.Fatal(err)
		}
	}
}
