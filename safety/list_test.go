package safety_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/safety"
)

func TestList(t *testing.T) {
	list := parse(t, "\ufeff# comment\n\nred shoe\nFoo\nré:x\nre: ba[rz]+ no\\d\n猫と犬\n🍆\nill\nall\n1488\n")
	for prompt, want := range map[string]bool{
		"":                            false,
		"foo":                         true,
		"FOO!":                        true,
		"fo":                          false,
		"foofoo":                      false,
		"a red shoe":                  true,
		"a red, shoe":                 true,
		"red_shoe":                    true,
		"r3d $hoe":                    true,
		"R.E.D   S-H-O-E":             true,
		"red shoes":                   false,
		"red and shoe":                false,
		"redshoe":                     false,
		"barz no1":                    true,
		"BARZ  No1":                   true,
		"barz no":                     false,
		"白い猫と犬の絵":                     true,
		"白い猫の絵":                       false,
		"an 🍆 emoji":                  true,
		"an🍆emoji":                    true,
		"ill":                         true,
		"i11":                         true,
		"iii":                         false,
		"ail":                         false,
		"a11":                         true,
		"aIl":                         true,
		"1488":                        true,
		"1489":                        false,
		strings.Repeat("a ", 2000):    false,
		strings.Repeat("fo-", 1300):   false,
		strings.Repeat("((((", 1000):  false,
		strings.Repeat("o", 4000):     false,
		"f" + strings.Repeat("o", 20): true,
	} {
		if got := list.Refuses(prompt); got != want {
			t.Errorf("%.40q: refused is %v", prompt, got)
		}
	}
}

func TestReadList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(path, []byte("foo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := safety.ReadList(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("foo\n"))
	if want := "sha256:" + hex.EncodeToString(sum[:]); list.Digest() != want {
		t.Errorf("digest is %s, want %s", list.Digest(), want)
	}
	if _, err := safety.ReadList(path + "x"); err == nil {
		t.Error("a list that is not there was read")
	}
}

// What is wrong is said with its line, and without its words.
func TestListErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "no entry",
		"# a\n\n":                  "no entry",
		"ok\nre:secret(\n":         "line 2: not a regular expression of RE2: missing closing )",
		"re:secret*|\n":            "line 1: a regular expression that matches every prompt",
		"...\n":                    "line 1: no letter or digit",
		"secret\xff\n":             "line 1: not in UTF-8",
		strings.Repeat("s", 2000):  "line 1: longer than 1000 bytes",
		strings.Repeat("s\n", 3e6): "more than",
	} {
		_, err := safety.ParseList([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzRefuses(f *testing.F) {
	list := parse(f, words+"re:x+y\n猫\n")
	for line := range strings.Lines(innocent) {
		f.Add(line)
	}
	f.Add("(n:1.2)u\u0301d\\e 猫")
	f.Fuzz(func(t *testing.T, prompt string) {
		if list.Refuses(prompt) != list.Refuses(prompt) { //nolint:staticcheck // the same again
			t.Error("one prompt, two answers")
		}
		if !list.Refuses(prompt+" nude") || !list.Refuses("nude, "+prompt) {
			t.Error("a word is not found beside other text")
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte(words))
	f.Add([]byte("re:(a|b)*c\n!\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if list, err := safety.ParseList(data); err == nil {
			list.Refuses(string(data))
		}
	})
}
