package tokenizer_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/tokenizer"
)

func TestChunks(t *testing.T) {
	for name, tok := range goldenTokenizers(t) {
		for text, want := range map[string][]string{
			"":                                 {""},
			"a cat":                            {"a cat"},
			"a <|endoftext|> b":                {"a <|endoftext|> b"},
			strings.Repeat("a ", 75):           {strings.Repeat("a ", 75)},
			strings.Repeat("a ", 76):           {strings.Repeat("a ", 75), "a"},
			strings.Repeat("a , b ", 50) + ",": {strings.Repeat("a , b ", 25), strings.Repeat("a , b ", 25), ","},
		} {
			var ids [][]int32
			for _, c := range tok.Chunks(text) {
				ids = append(ids, c.IDs)
				if !slices.Equal(c.Weights, slices.Repeat([]float32{1}, 77)) {
					t.Errorf("%s: weights %v", name, c.Weights)
				}
			}
			var wantIDs [][]int32
			for _, text := range want {
				wantIDs = append(wantIDs, tok.Prompt(text))
			}
			if diff := cmp.Diff(wantIDs, ids); diff != "" {
				t.Errorf("%s: Chunks(%q) (-want +got):\n%s", name, text, diff)
			}
		}
		if diff := cmp.Diff([]tokenizer.Chunk{tok.Empty()}, tok.Chunks(" ")); diff != "" {
			t.Errorf("%s: Empty is not the chunk of nothing:\n%s", name, diff)
		}
	}
}

func TestChunksProperties(t *testing.T) {
	tok := load(t, clipFolder())
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 300, -1).Draw(t, "text")
		ids, chunks := tok.Encode(text), tok.Chunks(text)
		if want := max(1, (len(ids)+74)/75); len(chunks) != want {
			t.Fatalf("%d chunks of %d ids, want %d", len(chunks), len(ids), want)
		}
		if !slices.Equal(chunks[0].IDs, tok.Prompt(text)) {
			t.Fatal("the first chunk is not Prompt")
		}
		var got []int32
		for i, c := range chunks {
			n := min(75, len(ids)-75*i)
			got = append(got, c.IDs[1:n+1]...)
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("ids\n got %v\nwant %v", got, ids)
		}
	})
}

// A chunk shorter than the backtrack still goes forward.
func TestShortLength(t *testing.T) {
	folder := tinyFolder(t)
	folder["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"model_max_length": 8}`)}
	tok := load(t, folder)
	const text = "a , b c d e f g h , , , , , , , i j k"
	var got []int32
	for _, c := range tok.Weighted(text) {
		if len(c.IDs) != 8 || len(c.Weights) != 8 {
			t.Fatalf("%d ids and %d weights, want 8", len(c.IDs), len(c.Weights))
		}
		got = append(got, c.IDs[1:slices.Index(c.IDs, tok.EOS())]...)
	}
	if want := tok.Encode(text); !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
}
