package tokenizer

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

func validUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// normalize is CLIP's normalizer in Hugging Face tokenizers: NFC, then each run
// of white space to one space, then lower case, each character on its own (no
// final sigma).
func normalize(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	inSpace := false
	for _, r := range nfc(s) {
		if unicode.IsSpace(r) {
			if !inSpace {
				b.WriteByte(' ')
			}
			inSpace = true
			continue
		}
		inSpace = false
		if r == 'İ' { // the one character whose lower case is two
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(lower.ToLower(r))
	}
	return b.String()
}

// words gives the words of normalised text by CLIP's pattern:
//
//	's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
func words(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for s != "" {
			n, kind := nextWord(s)
			if kind != space && !yield(s[:n]) {
				return
			}
			s = s[n:]
		}
	}
}

func nextWord(s string) (int, class) {
	for _, c := range [...]string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(s, c) {
			return len(c), letter
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	kind := classOf(r)
	if kind == number { // one at a time
		return n, kind
	}
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if classOf(r) != kind {
			break
		}
		n += size
	}
	return n, kind
}

type class int

const (
	space class = iota
	letter
	number
	other // punctuation, symbols, marks, controls, unassigned
)

func classOf(r rune) class {
	switch {
	case unicode.IsSpace(r):
		return space
	case unicode.IsLetter(r), unicode.Is(newLetters, r):
		return letter
	case unicode.IsNumber(r), unicode.Is(newNumbers, r):
		return number
	}
	return other
}
