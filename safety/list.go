package safety

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// List is what prompts may not say. It is safe for concurrent use.
type List struct {
	digest string
	// phrases are by the key of their first word.
	phrases map[string][]phrase
	// longest is the length of the longest word, in characters.
	longest int
	// parts are entries in scripts that put no space between words.
	parts []string
	// expressions are matched against the folded prompt.
	expressions []*regexp.Regexp
}

// phrase is one or more words that stand one after the other.
type phrase [][]rune

const (
	maxList  = 4 << 20 // bytes
	maxEntry = 1000    // bytes
	// comment and expression begin a line.
	comment, expression = "#", "re:"
)

// ReadList reads a list from a file. Errors name lines and never quote them.
func ReadList(path string) (*List, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	return ParseList(data)
}

// ParseList reads a list: in UTF-8, one entry a line. An entry is a word or a
// phrase, or re: and a regular expression in RE2's syntax. Lines that are empty
// or begin with # do not count.
func ParseList(data []byte) (*List, error) {
	if len(data) > maxList {
		return nil, fmt.Errorf("read list: more than %d bytes", maxList)
	}
	sum := sha256.Sum256(data)
	l := &List{digest: "sha256:" + hex.EncodeToString(sum[:]), phrases: map[string][]phrase{}}
	var errs []error
	entries := 0
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	lines.Buffer(nil, maxList+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, comment) {
			continue
		}
		entries++
		if err := l.add(line); err != nil {
			errs = append(errs, fmt.Errorf("read list: line %d: %w", n, err))
		}
	}
	if entries == 0 {
		errs = append(errs, errors.New("read list: it has no entry"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *List) add(entry string) error {
	switch {
	case !utf8.ValidString(entry):
		return errors.New("not in UTF-8")
	case len(entry) > maxEntry:
		return fmt.Errorf("longer than %d bytes", maxEntry)
	}
	if text, ok := strings.CutPrefix(entry, expression); ok {
		re, err := regexp.Compile(strings.TrimSpace(text))
		if err != nil {
			if e, ok := errors.AsType[*syntax.Error](err); ok {
				return fmt.Errorf("not a regular expression of RE2: %s", e.Code)
			}
			return errors.New("not a regular expression of RE2")
		}
		if re.MatchString("") {
			return errors.New("a regular expression that matches every prompt")
		}
		l.expressions = append(l.expressions, re)
		return nil
	}
	folded := fold(entry)
	words := split(folded)
	if len(words) == 0 {
		return errors.New("no letter or digit")
	}
	if strings.ContainsFunc(folded, unspaced) {
		l.parts = append(l.parts, compact(words))
		return nil
	}
	p := make(phrase, len(words))
	for i, w := range words {
		p[i] = w.runes
		l.longest = max(l.longest, len(w.runes))
	}
	k := key(p[0])
	l.phrases[k] = append(l.phrases[k], p)
	return nil
}

// Digest is the SHA-256 of the file.
func (l *List) Digest() string { return l.digest }

// unspaced are letters of scripts whose words stand without spaces between.
func unspaced(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

func compact(words []word) string {
	var out strings.Builder
	for _, w := range words {
		out.WriteString(string(w.runes))
	}
	return out.String()
}
