package tokenizer

import (
	"iter"
	"strings"
)

// addedTokens are texts that become one id wherever they stand, found before
// any word is split off; the longest wins.
type addedTokens struct {
	tokens []addedToken
	first  [256]bool // bytes that begin a token
}

type addedToken struct {
	text string
	id   int32
}

func (a *addedTokens) add(text string, id int32) {
	if text == "" {
		return
	}
	a.tokens = append(a.tokens, addedToken{text, id})
	a.first[text[0]] = true
}

// split gives the stretches of s between added tokens, each with the id of the
// token that ends it; the last one with -1. Stretches may be empty.
func (a *addedTokens) split(s string) iter.Seq2[string, int32] {
	return func(yield func(string, int32) bool) {
		start := 0
		for i := 0; i < len(s); {
			token, ok := a.at(s[i:])
			if !ok {
				i++
				continue
			}
			if !yield(s[start:i], token.id) {
				return
			}
			i += len(token.text)
			start = i
		}
		yield(s[start:], -1)
	}
}

func (a *addedTokens) at(s string) (best addedToken, ok bool) {
	if !a.first[s[0]] {
		return addedToken{}, false
	}
	for _, t := range a.tokens {
		if len(t.text) > len(best.text) && strings.HasPrefix(s, t.text) {
			best, ok = t, true
		}
	}
	return best, ok
}
