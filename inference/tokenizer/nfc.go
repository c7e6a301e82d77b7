package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nfc is Unicode's normalization form C (Unicode Standard Annex 15). norm.NFC
// by itself is not: to make text stream-safe it puts U+034F into runs of more
// than 30 combining marks, which the reference does not. Its tables are right.
func nfc(s string) string {
	if norm.NFC.IsNormalString(s) {
		return s
	}
	return string(compose(decompose(s)))
}

// decompose gives the canonical decomposition in canonical order.
func decompose(s string) []rune {
	runes := make([]rune, 0, len(s))
	for _, r := range s {
		runes = append(runes, []rune(norm.NFD.String(string(r)))...)
	}
	for start := 0; start < len(runes); start++ {
		end := start
		for end < len(runes) && combiningClass(runes[end]) != 0 {
			end++
		}
		slices.SortStableFunc(runes[start:end], func(a, b rune) int {
			return int(combiningClass(a)) - int(combiningClass(b))
		})
		start = end
	}
	return runes
}

// compose joins each starter with the characters that follow it unblocked, in
// place.
func compose(runes []rune) []rune {
	out := runes[:0]
	starter := -1 // index in out
	for _, r := range runes {
		class := combiningClass(r)
		if starter >= 0 && (starter == len(out)-1 || combiningClass(out[len(out)-1]) < class) {
			if c, ok := composite(out[starter], r); ok {
				out[starter] = c
				continue
			}
		}
		if class == 0 {
			starter = len(out)
		}
		out = append(out, r)
	}
	return out
}

func combiningClass(r rune) uint8 {
	if r < 0x300 { // the first combining mark
		return 0
	}
	return norm.NFC.PropertiesString(string(r)).CCC()
}

func composite(a, b rune) (rune, bool) {
	if b < 0x300 {
		return 0, false
	}
	s := norm.NFC.String(string([]rune{a, b}))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s)
}
