package tokenizer_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/tokenizer"
)

// weightedGolden is what the reference says; testdata/weighted.py makes it.
type weightedGolden struct {
	Runs []struct {
		Prompt string
		Runs   []weightedRun
	}
	Chunks []struct {
		Folder, Prompt string
		Chunks         []goldenChunk
	}
}

type weightedRun struct {
	Text   string
	Weight float64
}

func (r *weightedRun) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&r.Text, &r.Weight})
}

// goldenChunk lacks the padding and the weights of 1 at its end.
type goldenChunk struct {
	IDs     []int32
	Weights []countedWeight
}

type countedWeight struct {
	Weight float32
	Times  int
}

func (w *countedWeight) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&w.Weight, &w.Times})
}

func (c goldenChunk) whole(tok *tokenizer.Tokenizer) tokenizer.Chunk {
	whole := tokenizer.Chunk{IDs: slices.Clone(c.IDs)}
	for _, w := range c.Weights {
		whole.Weights = append(whole.Weights, slices.Repeat([]float32{w.Weight}, w.Times)...)
	}
	for len(whole.IDs) < tok.Length() {
		whole.IDs = append(whole.IDs, tok.Pad())
	}
	for len(whole.Weights) < tok.Length() {
		whole.Weights = append(whole.Weights, 1)
	}
	return whole
}

func TestWeightedGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/weighted.json")
	if err != nil {
		t.Fatal(err)
	}
	var g weightedGolden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	for _, c := range g.Runs {
		var got []weightedRun
		tokenizer.EachRun(c.Prompt, func(text string, weight float64) {
			got = append(got, weightedRun{text, weight})
		})
		if len(got) == 0 { // the reference gives one empty run
			got = append(got, weightedRun{"", 1})
		}
		if diff := cmp.Diff(c.Runs, got); diff != "" {
			t.Errorf("runs of %+q (-want +got):\n%s", c.Prompt, diff)
		}
	}
	toks := goldenTokenizers(t)
	for _, c := range g.Chunks {
		var want []tokenizer.Chunk
		for _, chunk := range c.Chunks {
			want = append(want, chunk.whole(toks[c.Folder]))
		}
		if diff := cmp.Diff(want, toks[c.Folder].Weighted(c.Prompt)); diff != "" {
			t.Errorf("%s: Weighted(%+q) (-want +got):\n%s", c.Folder, c.Prompt, diff)
		}
	}
}

// The examples of parse_prompt_attention's documentation, and what the reference
// does not answer: it fails on numbers that are none, and knows no limits.
func TestWeightedSyntax(t *testing.T) {
	deep := strings.Repeat("(", 4000)
	for prompt, want := range map[string][]weightedRun{
		"normal text":           {{"normal text", 1}},
		"an (important) word":   {{"an ", 1}, {"important", 1.1}, {" word", 1}},
		"(unbalanced":           {{"unbalanced", 1.1}},
		`\(literal\]`:           {{"(literal]", 1}},
		"(unnecessary)(parens)": {{"unnecessaryparens", 1.1}},
		"a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": {
			{"a ", 1}, {"house", 1.5730000000000004}, {" ", 1.1}, {"on", 1}, {" a ", 1.1},
			{"hill", 0.55}, {", sun, ", 1.1}, {"sky", 1.4641000000000006}, {".", 1.1},
		},

		"(a:1.2.3)": {{"a:1.2.3", 1.1}},
		"(a:.)":     {{"a:.", 1.1}},
		"(a:+)":     {{"a:+", 1.1}},
		"(a:--1)":   {{"a:--1", 1.1}},
		"(a:1-2)":   {{"a:1-2", 1.1}},

		deep + "a":          {{"a", 1000}},
		deep + "(a:-1)":     {{"a", -1000}},
		"(a:1000000000000)": {{"a", 1000}},
		"((a:" + strings.Repeat("9", 400) + "):0)":    {{"a", 0}},
		"((a:-" + strings.Repeat("9", 400) + "):0.5)": {{"a", -500}},
	} {
		var got []weightedRun
		tokenizer.EachRun(prompt, func(text string, weight float64) { got = append(got, weightedRun{text, weight}) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("runs of %.60q (-want +got):\n%s", prompt, diff)
		}
	}
}

// Without the syntax and without commas to end a chunk at, both are the same.
func TestWeightedIsChunks(t *testing.T) {
	toks := goldenTokenizers(t)
	rapid.Check(t, func(t *rapid.T) {
		tok := toks[rapid.SampledFrom([]string{"sd1", "sd2", "tiny"}).Draw(t, "folder")]
		words := rapid.SliceOfN(rapid.StringMatching(`[^\\()\[\]:,|]{0,12}`), 0, 120).Draw(t, "words")
		text := strings.ReplaceAll(strings.Join(words, " "), "BREAK", "break")
		if diff := cmp.Diff(tok.Chunks(text), tok.Weighted(text)); diff != "" {
			t.Fatalf("Chunks and Weighted (-Chunks +Weighted):\n%s", diff)
		}
	})
}

// Whatever is weighted and wherever chunks end, the ids are those of the text.
func TestWeightedKeepsIDs(t *testing.T) {
	tok := load(t, clipFolder())
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"cat", "dog,", ",", "(red:1.2)", "[blue],", "((sky,", "sea)", "it's", "(8k:-0.5)"}), 0, 300).Draw(t, "words")
		prompt := strings.Join(words, " ")
		var want, got []int32
		tokenizer.EachRun(prompt, func(text string, _ float64) { want = append(want, tok.Encode(text)...) })
		chunks := tok.Weighted(prompt)
		for i, c := range chunks {
			n := slices.Index(c.IDs, tok.EOS())
			got = append(got, c.IDs[1:n]...)
			if i < len(chunks)-1 && n-1 < 75-commaBacktrack {
				t.Fatalf("chunk %d has only %d ids", i, n-1)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("ids of %q\n got %v\nwant %v", prompt, got, want)
		}
	})
}

const commaBacktrack = 20

func FuzzWeighted(f *testing.F) {
	for _, s := range []string{
		"", "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", `\(a\) \\ \`, "a BREAK (b:-1) BREAK", "[(a BREAK b)]", "(a:1e9)(b:.)((c:0)",
		strings.Repeat("cat, ", 90), strings.Repeat("(", 300) + "a", "(a:" + strings.Repeat("9", 330) + ")", "<|endoftext|>(\xff:1.2)", "BREAK:BREAK:é",
	} {
		f.Add(s)
	}
	toks := []*tokenizer.Tokenizer{load(f, clipFolder()), goldenTokenizers(f)["tiny2"]} // padding is eos, and "!"
	f.Fuzz(func(t *testing.T, prompt string) {
		for _, tok := range toks {
			chunks := tok.Weighted(prompt)
			if n := len(chunks); n < 1 || n > 2+len(prompt)/4 {
				t.Fatalf("%d chunks of %d bytes", n, len(prompt))
			}
			for _, c := range append(chunks, tok.Chunks(prompt)...) {
				checkChunk(t, tok, c)
			}
		}
	})
}

func checkChunk(t *testing.T, tok *tokenizer.Tokenizer, c tokenizer.Chunk) {
	t.Helper()
	if len(c.IDs) != tok.Length() || len(c.Weights) != tok.Length() {
		t.Fatalf("%d ids and %d weights, want %d", len(c.IDs), len(c.Weights), tok.Length())
	}
	if c.IDs[0] != tok.BOS() || !slices.Contains(c.IDs, tok.EOS()) {
		t.Fatalf("frame of %v", c.IDs)
	}
	for _, id := range c.IDs {
		if id < 0 || int(id) >= tok.Size() {
			t.Fatalf("id %d is not in [0, %d)", id, tok.Size())
		}
	}
	for _, w := range c.Weights {
		if !(math.Abs(float64(w)) <= 1000) {
			t.Fatalf("weight %g", w)
		}
	}
	if last := len(c.Weights) - 1; c.Weights[0] != 1 || c.Weights[last] != 1 {
		t.Fatalf("weights of the frame %g, %g", c.Weights[0], c.Weights[last])
	}
}

func BenchmarkWeighted(b *testing.B) {
	tok := load(b, clipFolder())
	b.ReportAllocs()
	for b.Loop() {
		tok.Weighted("an (astronaut:1.2) riding a [horse] on mars, highly detailed, 8k, trending on artstation")
	}
}

func BenchmarkWeightedHostile(b *testing.B) {
	tok := load(b, clipFolder())
	text := strings.Repeat("a(", 2000)
	for b.Loop() {
		tok.Weighted(text)
	}
}
