// Package tokenizer is CLIP's byte-pair encoding. It gives the ids that the
// fast CLIP tokenizer of Hugging Face transformers gives (CLIPTokenizerFast,
// 4.57): text is brought to NFC and lower case, and nothing else is cleaned, so
// HTML entities, curly quotes and control characters count as they stand.
package tokenizer

import (
	"fmt"
	"io/fs"
	"slices"
)

// Tokenizer turns prompts into ids. It is immutable and safe for concurrent
// use; it keeps nothing of what it has encoded.
type Tokenizer struct {
	bpe    *bpe
	raw    addedTokens // searched in the text as typed
	folded addedTokens // searched in the normalised text
	bos    int32
	eos    int32
	pad    int32
	length int
	size   int

	commaID int32 // -1 if the vocabulary has none
}

// Load reads a tokenizer folder in the layout of transformers: vocab.json and
// merges.txt, and what is there of tokenizer_config.json,
// special_tokens_map.json and added_tokens.json.
func Load(fsys fs.FS) (*Tokenizer, error) {
	vocab, err := readVocabulary(fsys)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	s, err := readSettings(fsys)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}

	t := &Tokenizer{length: s.length, commaID: -1}
	if id, ok := vocab[",</w>"]; ok {
		t.commaID = id
	}
	ids := make(map[string]int32, len(s.added))
	next := int32(len(vocab))
	for _, a := range s.added {
		id, ok := vocab[a.Content]
		if !ok { // the reference appends what the vocabulary lacks
			id = next
			next++
		}
		ids[a.Content] = id
		if a.Normalized {
			t.folded.add(normalize(a.Content), id)
		} else {
			t.raw.add(a.Content, id)
		}
	}
	t.size = int(next)
	t.bos, t.eos, t.pad = ids[s.bos], ids[s.eos], ids[s.pad]
	if t.bpe, err = newBPE(fsys, vocab, ids[s.unk]); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

// Encode gives the ids of the text alone: without bos and eos, and not cut.
// A special token that a user types, such as <|endoftext|>, becomes that token,
// as in the reference; so does "!" where it is the pad token. Bytes that are
// not UTF-8 count as U+FFFD.
func (t *Tokenizer) Encode(text string) []int32 {
	var ids []int32
	merging := chain{bpe: t.bpe}
	for raw, id := range t.raw.split(validUTF8(text)) {
		for part, id := range t.folded.split(normalize(raw)) {
			for word := range words(part) {
				ids = merging.encode(ids, word)
			}
			if id >= 0 {
				ids = append(ids, id)
			}
		}
		if id >= 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// Prompt gives the text encoder's input: bos, the text's first Length-2 ids,
// eos, then the pad id up to Length.
func (t *Tokenizer) Prompt(text string) []int32 {
	ids := t.Encode(text)
	return t.frame(ids[:min(len(ids), t.length-2)])
}

func (t *Tokenizer) frame(ids []int32) []int32 {
	out := make([]int32, 0, t.length)
	out = append(out, t.bos)
	out = append(out, ids...)
	out = append(out, t.eos)
	return append(out, slices.Repeat([]int32{t.pad}, t.length-len(out))...)
}

// BOS is the id that begins a prompt.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS is the id that ends a prompt's text.
func (t *Tokenizer) EOS() int32 { return t.eos }

// Pad is the id that fills a prompt up to Length: eos in Stable Diffusion 1,
// "!" (0) in 2 and in SDXL's second tokenizer.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Length is the number of ids of a Prompt, 77 for CLIP.
func (t *Tokenizer) Length() int { return t.length }

// Size is the size of the vocabulary; every id is in [0, Size).
func (t *Tokenizer) Size() int { return t.size }
