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

// held gives a folded text with signs, emoji among them, as marks that hold a
// word together (n+u+d+e), not as letters.
func held(folded string) string {
	return strings.Map(func(r rune) rune {
		if symbols[r] || unicode.IsSymbol(r) {
			return '-'
		}
		return r
	}, folded)
}

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

// forms are what a unit may be meant as: with and without the signs and the
// digits at its ends, which may be letters ($lut) or not (slut!, slut2), and
// without what stands between its letters (sxlxuxt).
func forms(runes []rune) [][]rune {
	last := len(runes) - 1
	lefts := ends(runes, func(i int) rune { return runes[i] })
	rights := ends(runes, func(i int) rune { return runes[last-i] })
	all := make([][]rune, 0, 2*len(lefts)*len(rights))
	for _, left := range lefts {
		for _, right := range rights {
			if left+right > last {
				continue
			}
			form := runes[left : len(runes)-right]
			all = append(all, form)
			if letters := apart(form); letters != nil {
				all = append(all, letters)
			}
		}
	}
	return all
}

// ends are how many characters may be cut from an end: none, the signs or the
// digits that are outermost, all signs and digits.
func ends(runes []rune, at func(int) rune) []int {
	outer, all := 0, 0
	for all < len(runes) && (symbols[at(all)] || unicode.IsDigit(at(all))) {
		if outer == all && unicode.IsDigit(at(all)) == unicode.IsDigit(at(0)) {
			outer++
		}
		all++
	}
	if all == 0 || all == len(runes) { // nothing to cut, or nothing would be left
		return whole
	}
	return slices.Compact([]int{0, outer, all})
}

var whole = []int{0}

// apart gives every other character if between them stands the same each time,
// or between letters a digit each time, twice at least. One letter again and
// again is no word so: Kukuk, K-5, K-7, K-3.
func apart(runes []rune) []rune {
	if len(runes) < 2*spaced-1 {
		return nil
	}
	same, digits, several := true, true, false
	for i, r := range runes {
		if i%2 == 0 {
			digits = digits && unicode.IsLetter(r)
			several = several || r != runes[0]
		} else {
			digits = digits && unicode.IsDigit(r)
			same = same && r == runes[1]
		}
		if !same && !digits {
			return nil
		}
	}
	if !several {
		return nil
	}
	letters := make([]rune, 0, len(runes)/2+1)
	for i := 0; i < len(runes); i += 2 {
		letters = append(letters, runes[i])
	}
	return letters
}
