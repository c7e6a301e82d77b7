package safety

import (
	"regexp"
	"strings"
)

// Refuses reports whether the text says what is on the list.
func (l *List) Refuses(text string) bool {
	for _, reading := range readings(text) {
		folded := fold(reading)
		if l.hasWords(folded) || l.hasExpression(folded) {
			return true
		}
		if held := held(folded); held != folded && l.hasWords(held) {
			return true
		}
	}
	return false
}

func (l *List) hasWords(folded string) bool {
	words := split(folded)
	return l.hasPhrase(words) || l.hasPart(words)
}

func (l *List) hasPhrase(words []word) bool {
	for i := range words {
		for _, u := range units(words[i:], l.longest) {
			for _, t := range forms(u.runes) {
				for _, p := range l.phrases[key(t)] {
					if spells(t, p[0]) && l.continues(words[i+u.pieces:], p[1:]) {
						return true
					}
				}
			}
		}
	}
	return false
}

// continues reports whether the words go on with the rest of a phrase.
func (l *List) continues(words []word, rest phrase) bool {
	if len(rest) == 0 {
		return true
	}
	if len(words) == 0 {
		return false
	}
	for _, u := range units(words, l.longest) {
		for _, t := range forms(u.runes) {
			if spells(t, rest[0]) && l.continues(words[u.pieces:], rest[1:]) {
				return true
			}
		}
	}
	return false
}

func (l *List) hasPart(words []word) bool {
	if len(l.parts) == 0 {
		return false
	}
	text := compact(words)
	for _, part := range l.parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func (l *List) hasExpression(folded string) bool {
	if len(l.expressions) == 0 {
		return false
	}
	text := strings.Join(strings.Fields(folded), " ")
	for _, e := range l.expressions {
		if e.MatchString(text) {
			return true
		}
	}
	return false
}

var (
	// closingWeight ends a weighted part of a prompt; it has no part in words.
	closingWeight = regexp.MustCompile(`\s*:\s*[+-]?[0-9.]+\s*\)`)
	// negativeWeight turns what it weighs round.
	negativeWeight = regexp.MustCompile(`:\s*-`)
	brackets       = strings.NewReplacer("(", "", ")", "", "[", "", "]", "", `\`, "")
)

// readings are the text as it stands, and as the weighted syntax reads it, which
// drops brackets, weights and backslashes: "(nu:1.2)de" is one word.
func readings(text string) []string {
	weighted := brackets.Replace(closingWeight.ReplaceAllString(text, ""))
	if weighted == text {
		return []string{text}
	}
	return []string{text, weighted}
}
