package privacy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imgus/worker/job"
)

// Receipt says what one erasure did. It holds no personal data: names are
// hidden by the subject key.
type Receipt struct {
	Version  int       `json:"version"`
	Kind     string    `json:"kind"`    // erasure
	Subject  string    `json:"subject"` // its pseudonym
	Started  time.Time `json:"started_at"`
	Finished time.Time `json:"finished_at"`
	Worker   string    `json:"worker"`
	// Resumed: an earlier erasure was cut short; what that one deleted is not
	// counted here, but for the jobs.
	Resumed bool `json:"resumed"`
	// Jobs have an erased record now, and nothing else.
	Jobs Tally `json:"jobs"`
	// Objects are photos, masks, images and records, each version and each mark
	// of deletion on its own. A record that the erased one replaced counts where
	// the store keeps versions.
	Objects Tally `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Uploads were never finished; QueueEntries waited or ran.
	Uploads      int `json:"uploads"`
	QueueEntries int `json:"queue_entries"`
	// HoldKept: the subject is on hold by an operator's wish.
	HoldKept bool `json:"hold_kept"`
}

const kindErasure = "erasure"

func (e *erasure) receipt(kept bool) Receipt {
	t := e.tally
	return Receipt{
		Version: job.Version, Kind: kindErasure, Subject: e.who, Started: e.start.UTC().Truncate(time.Millisecond),
		Finished: time.Now().UTC().Truncate(time.Millisecond), Worker: e.o.Version, Resumed: e.resumed,
		Jobs: sum(t.jobs), Objects: sum(t.objects), Bytes: t.bytes, Uploads: t.uploads, QueueEntries: t.entries, HoldKept: kept,
	}
}

// Signed is a receipt as it is handed out: the receipt's exact bytes, the
// public half of the key that signed them, and the Ed25519 signature over
// signingContext and those bytes.
type Signed struct {
	Receipt   json.RawMessage `json:"receipt"`
	PublicKey []byte          `json:"public_key,omitempty"`
	Signature []byte          `json:"signature,omitempty"`
}

// signingContext keeps a signature from meaning something else elsewhere.
const signingContext = "imgus-erasure-receipt-v1\n"

// Sign signs a receipt; with a nil key it stays unsigned.
func Sign(r Receipt, key ed25519.PrivateKey) (Signed, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return Signed{}, fmt.Errorf("encode receipt: %w", err)
	}
	if key == nil {
		return Signed{Receipt: data}, nil
	}
	public, _ := key.Public().(ed25519.PublicKey)
	return Signed{Receipt: data, PublicKey: public, Signature: ed25519.Sign(key, signed(data))}, nil
}

func signed(receipt []byte) []byte { return append([]byte(signingContext), receipt...) }

// Errors of Verify.
var (
	ErrUnsigned = errors.New("the receipt is not signed")
	ErrTampered = errors.New("the receipt is not what was signed")
	ErrStranger = errors.New("the receipt was signed with another key")
)

// Verify reads a receipt as Sign and JSON made it, to the byte, and checks that
// the key signed it. A nil key takes the one in the receipt: then it is only
// known that whoever has that key signed it.
func Verify(data []byte, key ed25519.PublicKey) (Receipt, error) {
	data = bytes.TrimSuffix(data, []byte("\n"))
	var s Signed
	if err := json.Unmarshal(data, &s); err != nil {
		return Receipt{}, fmt.Errorf("decode receipt: %w", err)
	}
	if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, data) {
		return Receipt{}, fmt.Errorf("%w: it was written anew", ErrTampered)
	}
	if len(s.Signature) == 0 {
		return Receipt{}, ErrUnsigned
	}
	if len(s.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(s.PublicKey, signed(s.Receipt), s.Signature) {
		return Receipt{}, ErrTampered
	}
	if key != nil && !key.Equal(ed25519.PublicKey(s.PublicKey)) {
		return Receipt{}, ErrStranger
	}
	var r Receipt
	if err := json.Unmarshal(s.Receipt, &r); err != nil {
		return Receipt{}, fmt.Errorf("decode receipt: %w", err)
	}
	if r.Version != job.Version || r.Kind != kindErasure {
		return Receipt{}, errors.New("decode receipt: it is of a kind or version that is not known here")
	}
	return r, nil
}

// ParsePrivateKey reads an Ed25519 key: PEM (PKCS #8, as openssl genpkey
// -algorithm ed25519 writes it), or its 32-byte seed in base64.
func ParsePrivateKey(text string) (ed25519.PrivateKey, error) {
	bad := errors.New("must be an Ed25519 private key: PEM as openssl genpkey -algorithm ed25519 writes it, or 32 bytes in base64")
	if block, _ := pem.Decode([]byte(text)); block != nil {
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		key, ok := parsed.(ed25519.PrivateKey)
		if err != nil || !ok {
			return nil, bad
		}
		return key, nil
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, bad
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParsePublicKey reads an Ed25519 public key: PEM (as openssl pkey -pubout
// writes it), or 32 bytes in base64, as a receipt has them.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	bad := errors.New("must be an Ed25519 public key: PEM as openssl pkey -pubout writes it, or 32 bytes in base64")
	if block, _ := pem.Decode([]byte(text)); block != nil {
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		key, ok := parsed.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, bad
		}
		return key, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, bad
	}
	return key, nil
}
