package safety

import (
	"slices"
	"strings"
	"unicode"
)

// word is a piece of a folded text.
type word struct {
	runes []rune
	// glued: nothing but marks that hold a word together (nu-de, n.u.d.e) stands
	// between it and the one before.
	glued bool
}

// letter reports whether the word is a single letter, with a mark at most.
func (w word) letter() bool {
	return len(w.runes) == 1 || len(w.runes) == 2 && (symbols[w.runes[0]] || symbols[w.runes[1]])
}

const glue = "-_.'’*~^`·•‐‑‒–—"

// split splits a folded text into words: letters, digits, and symbols that stand
// in for letters. An emoji is a word of its own.
func split(folded string) []word {
	var words []word
	var current []rune
	glued := false
	flush := func() {
		if len(current) > 0 {
			words = append(words, word{current, glued && len(words) > 0})
			current, glued = nil, true
		}
	}
	for _, r := range folded {
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || symbols[r]:
			current = append(current, r)
		case unicode.Is(unicode.So, r):
			flush()
			glued = false
			current = []rune{r}
			flush()
			glued = false
		default:
			flush()
			glued = glued && strings.ContainsRune(glue, r)
		}
	}
	flush()
	return words
}

// unit is what may be one word of so many pieces.
type unit struct {
	runes  []rune
	pieces int
}

// spaced is how many single letters in a row count as a word written apart.
const spaced = 3

// units are what the words from the first on may spell together: the first word;
// pieces held together by marks; letters that stand each by itself. Words with
// spaces between are never joined: "pen is" is two.
func units(words []word, longest int) []unit {
	all := []unit{{words[0].runes, 1}}
	joined := words[0].runes
	single, held := words[0].letter(), true
	for i, w := range words[1:] {
		held = held && w.glued
		single = single && w.letter()
		if !held && !single || len(joined) > 2*longest {
			break
		}
		joined = append(slices.Clip(joined), w.runes...)
		if pieces := i + 2; held || pieces >= spaced {
			all = append(all, unit{joined, pieces})
		}
	}
	return all
}

// trims gives a unit with and without the symbols at its ends, which may be
// letters ($lut) or marks (slut!).
func trims(runes []rune) [][]rune {
	isSymbol := func(r rune) bool { return symbols[r] }
	text := string(runes)
	all := [][]rune{runes}
	for _, t := range []string{strings.TrimRightFunc(text, isSymbol), strings.TrimLeftFunc(text, isSymbol), strings.TrimFunc(text, isSymbol)} {
		if t != "" && t != text {
			all = append(all, []rune(t))
		}
	}
	return all
}
