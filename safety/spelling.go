package safety

import (
	"strings"
	"unicode"
)

// substitutes are what is written for letters (leetspeak).
var substitutes = map[rune]string{
	'a': "4@", 'b': "86", 'c': "¢", 'e': "3€", 'g': "96", 'i': "1!|¡", 'l': "1!|£", 'o': "0", 'q': "9", 's': "5$", 't': "7+", 'y': "¥", 'z': "2",
}

// symbols are the substitutes that are no digits.
var symbols = func() map[rune]bool {
	symbols := map[rune]bool{}
	for _, all := range substitutes {
		for _, s := range all {
			symbols[s] = !unicode.IsDigit(s)
		}
	}
	return symbols
}()

// families give letters that share a substitute, and their substitutes, one
// character.
var families = func() map[rune]rune {
	families := map[rune]rune{}
	for _, family := range []string{"bgq", "il", "a", "c", "e", "o", "s", "t", "y", "z"} {
		for _, letter := range family {
			for _, r := range string(letter) + substitutes[letter] {
				families[r] = rune(family[0])
			}
		}
	}
	return families
}()

// key is what all spellings of a word have in common: it finds the entries that
// may match.
func key(word []rune) string {
	out := make([]rune, 0, len(word))
	for _, r := range word {
		if f, ok := families[r]; ok {
			r = f
		}
		if len(out) == 0 || out[len(out)-1] != r {
			out = append(out, r)
		}
	}
	return string(out)
}

// stretched is how often in a row a character must stand to count as drawn out
// (nuuude). Twice is how words are spelt, so that good is not god, unless two
// characters are (nnuude).
const stretched = 3

// spells reports whether text is a spelling of the word.
func spells(text, word []rune) bool {
	letters, substituted := false, false
	drawn, doubled := 0, 0
	for len(text) > 0 {
		r, n := text[0], 1
		for n < len(text) && text[n] == r {
			n++
		}
		text = text[n:]
		letters = letters || unicode.IsLetter(r)
		matched := 0
		for matched < min(n, len(word)) && (word[matched] == r || strings.ContainsRune(substitutes[word[matched]], r)) {
			substituted = substituted || word[matched] != r
			matched++
		}
		switch {
		case matched == 0:
			return false
		case matched < n && n < stretched:
			doubled++
		case matched < n:
			drawn++
		}
		word = word[matched:]
	}
	// A number is a number: 455 is no word.
	return len(word) == 0 && (letters || !substituted) && (doubled != 1 || drawn > 0)
}
