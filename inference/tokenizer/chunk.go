package tokenizer

import "slices"

// Chunk is one run of the text encoder: bos, up to Length-2 ids, eos and
// padding, and a weight per id, which is 1 for all that the prompt did not type.
type Chunk struct {
	IDs     []int32
	Weights []float32
}

// Chunks splits a prompt of any length into chunks of Length-2 ids, at least
// one, all of weight 1. The first begins as Prompt does.
//
// The prompt's embedding is that of its chunks, each encoded by itself, one
// after the other. So every chunk costs a run of the text encoder and Length
// positions in each cross-attention of every step.
func (t *Tokenizer) Chunks(text string) []Chunk {
	var chunks []Chunk
	for ids := range slices.Chunk(t.Encode(text), t.length-2) {
		chunks = append(chunks, t.chunk(ids, nil))
	}
	if len(chunks) == 0 {
		return []Chunk{t.Empty()}
	}
	return chunks
}

// Empty is the chunk of the empty prompt. It fills up the shorter of a prompt
// and its negative prompt.
func (t *Tokenizer) Empty() Chunk { return t.chunk(nil, nil) }

// chunk frames ids; the weights are those of the first of them, the others' are 1.
func (t *Tokenizer) chunk(ids []int32, weights []float32) Chunk {
	c := Chunk{IDs: t.frame(ids), Weights: slices.Repeat([]float32{1}, t.length)}
	copy(c.Weights[1:], weights)
	return c
}

// commaBacktrack is how many ids at most move to the next chunk so that a chunk
// ends at a comma (A1111's comma_padding_backtrack).
const commaBacktrack = 20

// pack appends the chunks of the ids between two BREAKs, at least one, as
// tokenize_line and process_tokens of A1111's
// FrozenCLIPEmbedderWithCustomWordsBase make them.
func (t *Tokenizer) pack(chunks []Chunk, ids []int32, weights []float32) []Chunk {
	for {
		n := t.fitting(ids)
		c := t.chunk(ids[:n], weights[:n])
		if t.pad != t.eos { // everything after the first eos is padding, even a typed one
			rest := c.IDs[slices.Index(c.IDs, t.eos)+1:]
			copy(rest, slices.Repeat([]int32{t.pad}, len(rest)))
		}
		chunks = append(chunks, c)
		if ids, weights = ids[n:], weights[n:]; len(ids) == 0 {
			return chunks
		}
	}
}

// fitting is how many of the ids go into one chunk.
func (t *Tokenizer) fitting(ids []int32) int {
	room := t.length - 2
	if len(ids) <= room {
		return len(ids)
	}
	if ids[room] != t.commaID {
		for i := room - 1; i >= max(0, room-commaBacktrack); i-- {
			if ids[i] == t.commaID {
				return i + 1
			}
		}
	}
	return room
}
