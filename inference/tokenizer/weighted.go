package tokenizer

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Weighted reads the prompt syntax of AUTOMATIC1111's stable-diffusion-webui
// (parse_prompt_attention, 1.10):
//
//	(text)         weighs 1.1 times as much
//	[text]         weighs 1/1.1 times as much
//	(text:1.3)     weighs 1.3 times as much; decimal, with or without a sign
//	\( \) \[ \] \\ the character itself
//	BREAK          ends the chunk
//
// Brackets nest, those left open reach to the end of the prompt, and those that
// close nothing are text, as is what is no number after a colon. A backslash
// before any other character vanishes. BREAK between brackets that change its
// weight is an ordinary word, as in the original. A weight never leaves
// [-1000, 1000].
//
// Text of equal weight is encoded in one. Where a chunk is full and has a comma
// among its last 20 ids, it ends at that comma.
//
// Alternatives ([a|b]), schedules ([a:b:0.5]) and AND are not supported: they
// are text, of which the brackets count.
//
// A prompt of n characters makes about n/6 chunks at the most (BREAK after
// BREAK); Chunks tells what one costs. The time to read a prompt grows with its
// pieces times its brackets: bound its length.
func (t *Tokenizer) Weighted(text string) []Chunk {
	var (
		chunks  []Chunk
		ids     []int32 // since the last BREAK
		weights []float32
	)
	for _, r := range parseWeights(text) {
		if r == breakRun {
			chunks = t.pack(chunks, ids, weights)
			ids, weights = ids[:0], weights[:0]
			continue
		}
		encoded := t.Encode(r.text)
		ids = append(ids, encoded...)
		weights = append(weights, slices.Repeat([]float32{float32(r.weight)}, len(encoded))...)
	}
	if len(ids) > 0 || len(chunks) == 0 {
		chunks = t.pack(chunks, ids, weights)
	}
	return chunks
}

const (
	roundWeight  = 1.1
	squareWeight = 1 / float64(roundWeight) // of the rounded 1.1, as the original
	// maxWeight is far beyond weights that leave a picture, and keeps all finite
	// however deep a stranger's brackets are. The original has no limit.
	maxWeight = 1000

	syntax = `\()[]:` // the characters that may mean something
)

// run is a piece of a prompt with its weight.
type run struct {
	text   string
	weight float64
}

// breakRun stands for BREAK, told from text by its weight as in the original.
var breakRun = run{"BREAK", -1}

// weightParser keeps, of each open bracket, the index of the run that follows it.
type weightParser struct {
	runs          []run
	round, square []int
}

func parseWeights(prompt string) []run {
	var p weightParser
	for rest := prompt; rest != ""; {
		n := 1
		switch rest[0] {
		case '\\':
			if len(rest) > 1 && strings.IndexByte(`\()[]`, rest[1]) >= 0 {
				n = 2
			}
			p.runs = append(p.runs, run{rest[1:n], 1})
		case '(':
			p.round = append(p.round, len(p.runs))
		case '[':
			p.square = append(p.square, len(p.runs))
		case ')':
			if !p.closeBracket(&p.round, roundWeight) {
				p.addText(rest[:1])
			}
		case ']':
			if !p.closeBracket(&p.square, squareWeight) {
				p.addText(rest[:1])
			}
		case ':':
			if weight, size, ok := closingWeight(rest); ok && p.closeBracket(&p.round, weight) {
				n = size
			} else {
				p.addText(rest[:1])
			}
		default:
			n = plainPrefix(rest)
			p.addText(rest[:n])
		}
		rest = rest[n:]
	}
	for _, from := range p.round {
		p.multiply(from, roundWeight)
	}
	for _, from := range p.square {
		p.multiply(from, squareWeight)
	}
	return mergeRuns(p.runs)
}

// addText adds text of weight 1 and, between its pieces, each BREAK.
func (p *weightParser) addText(s string) {
	for {
		before, after, ok := cutBreak(s)
		p.runs = append(p.runs, run{before, 1})
		if !ok {
			return
		}
		p.runs = append(p.runs, breakRun)
		s = after
	}
}

func (p *weightParser) closeBracket(open *[]int, weight float64) bool {
	last := len(*open) - 1
	if last < 0 {
		return false
	}
	p.multiply((*open)[last], weight)
	*open = (*open)[:last]
	return true
}

func (p *weightParser) multiply(from int, by float64) {
	by = clampWeight(by) // first, for infinity times zero is no number
	for i := from; i < len(p.runs); i++ {
		p.runs[i].weight = clampWeight(p.runs[i].weight * by)
	}
}

func clampWeight(w float64) float64 { return max(-maxWeight, min(w, maxWeight)) }

// mergeRuns joins neighbours of equal weight.
func mergeRuns(runs []run) []run {
	var merged []run
	for start := 0; start < len(runs); {
		var text strings.Builder
		end := start
		for ; end < len(runs) && runs[end].weight == runs[start].weight; end++ {
			text.WriteString(runs[end].text)
		}
		merged = append(merged, run{text.String(), runs[start].weight})
		start = end
	}
	return merged
}

// closingWeight reads ":1.3)", with white space around the number, at the
// beginning of s.
func closingWeight(s string) (weight float64, size int, ok bool) {
	end := 1 + plainPrefix(s[1:])
	if end == len(s) || s[end] != ')' {
		return 0, 0, false
	}
	number := strings.TrimSpace(s[1:end])
	if strings.Trim(number, "+-.0123456789") != "" { // ParseFloat reads more: inf, 1e5, 0x1p4
		return 0, 0, false
	}
	weight, err := strconv.ParseFloat(number, 64)
	return weight, end + 1, err == nil || errors.Is(err, strconv.ErrRange) // out of range is infinite
}

// plainPrefix is how many bytes come before the first character of the syntax.
func plainPrefix(s string) int {
	if n := strings.IndexAny(s, syntax); n >= 0 {
		return n
	}
	return len(s)
}

// cutBreak parts s at the first BREAK that is a word by itself, and the white
// space around it.
func cutBreak(s string) (before, after string, ok bool) {
	for from := 0; ; {
		i := strings.Index(s[from:], breakRun.text)
		if i < 0 {
			return s, "", false
		}
		start := from + i
		from = start + len(breakRun.text)
		left, _ := utf8.DecodeLastRuneInString(s[:start])
		right, _ := utf8.DecodeRuneInString(s[from:])
		if !inWord(left) && !inWord(right) {
			return strings.TrimRightFunc(s[:start], unicode.IsSpace), strings.TrimLeftFunc(s[from:], unicode.IsSpace), true
		}
	}
}

// inWord tells the characters of \w in Python's regular expressions.
func inWord(r rune) bool {
	c := classOf(r)
	return c == letter || c == number || r == '_'
}
