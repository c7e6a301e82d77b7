package seal_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/imgus/worker/queue/seal"
)

func ExampleKeys() {
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// openssl rand -base64 32 > 2026-11
	if err := os.WriteFile(filepath.Join(dir, "2026-11"), []byte("sWJ6ZBXPvGoK2m2Ov7mPLFAVHpKHB2xD1ZnEUQzOGrs="), 0o600); err != nil {
		panic(err)
	}
	keys := seal.Keys{Directory: dir, Key: "2026-11", Required: true}
	sealed, err := keys.Seal([]byte(`{"id":"a","prompt":"…"}`), "interactive", "a")
	if err != nil {
		panic(err)
	}
	opened, err := keys.Open(sealed, "interactive", "a")
	fmt.Println(string(opened), err)
	_, err = keys.Open(sealed, "batch", "a")
	fmt.Println(err)
	// Output:
	// {"id":"a","prompt":"…"} <nil>
	// invalid_job: sealed: the box cannot be opened: it was changed, or sealed with another key or for another queue or id: key 2026-11: the key does not open the box
}
