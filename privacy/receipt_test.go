package privacy_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/imgus/worker/privacy"
)

// Written by openssl genpkey -algorithm ed25519, openssl pkey -pubout.
const (
	privatePEM = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIEdWuxcFChvqhTi++IZ5ktiTZJ/T5euEklXgrgFe9ovG
-----END PRIVATE KEY-----`
	publicPEM = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEApkN0bc5AKBKjbQNN5jc+yoV+05yEmv5kEbfqh2guzUU=
-----END PUBLIC KEY-----`
)

func signedReceipt(t testing.TB) ([]byte, ed25519.PublicKey) {
	t.Helper()
	private, err := privacy.ParsePrivateKey(privatePEM)
	if err != nil {
		t.Fatal(err)
	}
	public, err := privacy.ParsePublicKey(publicPEM)
	if err != nil {
		t.Fatal(err)
	}
	s, err := privacy.Sign(privacy.Receipt{Version: 1, Kind: "erasure", Subject: anon, Jobs: privacy.Tally{Count: 3, Digest: "sha256:00"}}, private)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n'), public
}

func TestReceipt(t *testing.T) {
	data, public := signedReceipt(t)
	for _, key := range []ed25519.PublicKey{public, nil} {
		if r, err := privacy.Verify(data, key); err != nil || r.Jobs.Count != 3 || r.Subject != anon {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	stranger := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	if _, err := privacy.Verify(data, stranger); !errors.Is(err, privacy.ErrStranger) {
		t.Errorf("another key: %v", err)
	}
	// Every change of one byte, in every bit, is noticed.
	for i := range len(data) - 1 {
		for bit := range 8 {
			changed := append([]byte(nil), data...)
			changed[i] ^= 1 << bit
			if _, err := privacy.Verify(changed, public); err == nil {
				t.Errorf("byte %d as %q passes", i, changed[i])
			}
		}
	}
	for _, broken := range []string{"", "{}", string(data[:len(data)/2]), string(data) + "{}", " " + string(data)} {
		if _, err := privacy.Verify([]byte(broken), public); err == nil {
			t.Errorf("%q passes", broken)
		}
	}
	unsigned, err := privacy.Sign(privacy.Receipt{Version: 1, Kind: "erasure"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = json.Marshal(unsigned); err != nil {
		t.Fatal(err)
	}
	if _, err := privacy.Verify(data, public); !errors.Is(err, privacy.ErrUnsigned) {
		t.Errorf("unsigned: %v", err)
	}
}

func TestKeys(t *testing.T) {
	seed := base64.StdEncoding.EncodeToString(make([]byte, 32))
	private, err := privacy.ParsePrivateKey(seed + "\n")
	if err != nil {
		t.Fatal(err)
	}
	public, err := privacy.ParsePublicKey(base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey)))
	if err != nil || !public.Equal(private.Public()) {
		t.Errorf("got %v, %v", public, err)
	}
	for _, text := range []string{"", "AA==", "no base64", publicPEM} {
		if _, err := privacy.ParsePrivateKey(text); err == nil {
			t.Errorf("%q is a private key", text)
		}
	}
	for _, text := range []string{"", "AA==", "no base64", privatePEM} {
		if _, err := privacy.ParsePublicKey(text); err == nil {
			t.Errorf("%q is a public key", text)
		}
	}
}

// A receipt comes from a stranger.
func FuzzVerify(f *testing.F) {
	data, public := signedReceipt(f)
	f.Add(data)
	f.Add([]byte(`{"receipt":{},"public_key":"","signature":""}`))
	f.Fuzz(func(t *testing.T, changed []byte) {
		if _, err := privacy.Verify(changed, public); err == nil && !bytes.Equal(bytes.TrimSuffix(changed, []byte("\n")), bytes.TrimSuffix(data, []byte("\n"))) {
			t.Errorf("%q passes", changed)
		}
	})
}
