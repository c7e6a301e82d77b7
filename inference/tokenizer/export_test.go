package tokenizer

import (
	"fmt"
	"io"
)

// DescribeCodePoints writes each code point's class and normalised form, a line each.
func DescribeCodePoints(w io.Writer) {
	names := [...]string{space: "space", letter: "letter", number: "number", other: "other"}
	for r := rune(0); r <= 0x10ffff; r++ {
		if 0xd800 <= r && r < 0xe000 {
			continue
		}
		fmt.Fprintf(w, "%x %s %x\n", r, names[classOf(r)], normalize(string(r)))
	}
}

var ParseVocabulary = parseVocabulary

// EachRun calls f for each piece of a weighted prompt.
func EachRun(prompt string, f func(text string, weight float64)) {
	for _, r := range parseWeights(prompt) {
		f(r.text, r.weight)
	}
}
