package tokenizer

import (
	"fmt"
	"io/fs"
	"strings"
)

// maxMerges is where transformers' CLIPTokenizer stops reading merges.txt:
// CLIP's vocabulary less 256 bytes, 256 bytes at a word's end, and two special
// tokens.
const maxMerges = 49408 - 2*256 - 2

// bpe merges the bytes of a word, pair by pair, the lowest rank first.
type bpe struct {
	inner  [256]int32       // a byte's id
	final  [256]int32       // its id as the last byte of a word ("</w>")
	merges map[uint64]merge // by pairOf(left, right)
	result []int32          // a merge's id, by rank
}

type merge struct{ rank, id int32 }

func pairOf(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// newBPE reads merges.txt.
func newBPE(fsys fs.FS, vocab map[string]int32, unk int32) (*bpe, error) {
	text, err := fs.ReadFile(fsys, "merges.txt")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = lines[1:] // a version comment
	lines = lines[:min(len(lines), maxMerges)]

	b := &bpe{
		merges: make(map[uint64]merge, len(lines)),
		result: make([]int32, 0, len(lines)),
	}
	for i, symbol := range byteSymbols() {
		b.inner[i], b.final[i] = unk, unk
		if id, ok := vocab[symbol]; ok {
			b.inner[i] = id
		}
		if id, ok := vocab[symbol+"</w>"]; ok {
			b.final[i] = id
		}
	}
	var joined []byte
	for i, line := range lines {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, fmt.Errorf("merges.txt line %d: not two symbols", i+2)
		}
		l, okLeft := vocab[left]
		r, okRight := vocab[right]
		joined = append(append(joined[:0], left...), right...)
		id, okBoth := vocab[string(joined)]
		if !okLeft || !okRight || !okBoth {
			return nil, fmt.Errorf("merges.txt line %d: a symbol is not in vocab.json", i+2)
		}
		if _, dup := b.merges[pairOf(l, r)]; dup {
			continue
		}
		b.merges[pairOf(l, r)] = merge{int32(len(b.result)), id}
		b.result = append(b.result, id)
	}
	return b, nil
}

// chain is a word being merged: a linked list of symbols and a queue of the
// pairs that may merge. It can be used for one word after the other.
type chain struct {
	*bpe
	symbols []symbol
	queue   heap
}

type symbol struct{ id, prev, next int32 } // id is -1 once it has gone into its left neighbour

// encode appends the ids of one word. It takes O(n log n) for a word of n bytes,
// however long a word a stranger types.
func (w *chain) encode(ids []int32, word string) []int32 {
	w.symbols = w.symbols[:0]
	for i := range int32(len(word)) {
		w.symbols = append(w.symbols, symbol{w.inner[word[i]], i - 1, i + 1})
	}
	last := len(word) - 1
	w.symbols[last].id = w.final[word[last]]
	w.symbols[last].next = -1
	for i := range int32(last) {
		w.queuePair(i)
	}
	w.mergeAll()
	for i := int32(0); i >= 0; i = w.symbols[i].next {
		ids = append(ids, w.symbols[i].id)
	}
	return ids
}

func (w *chain) queuePair(left int32) {
	s := w.symbols[left]
	if m, ok := w.merges[pairOf(s.id, w.symbols[s.next].id)]; ok {
		w.queue.push(uint64(uint32(m.rank))<<32 | uint64(uint32(left)))
	}
}

// mergeAll merges the pair of the lowest rank, the leftmost of several, until
// none is left (Word::merge_all of Hugging Face tokenizers).
func (w *chain) mergeAll() {
	for len(w.queue) > 0 {
		top := w.queue.pop()
		rank, at := top>>32, int32(uint32(top))
		left := &w.symbols[at]
		if left.id < 0 || left.next < 0 {
			continue
		}
		right := &w.symbols[left.next]
		m, ok := w.merges[pairOf(left.id, right.id)]
		if !ok || m.id != w.result[rank] { // the pair has changed since
			continue
		}
		left.id, right.id = m.id, -1
		left.next = right.next
		if left.next >= 0 {
			w.symbols[left.next].prev = at
			w.queuePair(at)
		}
		if left.prev >= 0 {
			w.queuePair(left.prev)
		}
	}
}

// heap is a binary min-heap: container/heap without its boxing.
type heap []uint64

func (h *heap) push(v uint64) {
	*h = append(*h, v)
	q := *h
	for i := len(q) - 1; i > 0; {
		parent := (i - 1) / 2
		if q[parent] <= q[i] {
			return
		}
		q[parent], q[i] = q[i], q[parent]
		i = parent
	}
}

func (h *heap) pop() uint64 {
	q := *h
	top := q[0]
	q[0] = q[len(q)-1]
	q = q[:len(q)-1]
	*h = q
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(q) {
			return top
		}
		if child+1 < len(q) && q[child+1] < q[child] {
			child++
		}
		if q[i] <= q[child] {
			return top
		}
		q[i], q[child] = q[child], q[i]
		i = child
	}
}

// byteSymbols are the printable characters that stand for bytes in vocab.json
// (bytes_to_unicode of GPT-2).
func byteSymbols() [256]string {
	var symbols [256]string
	next := rune(256)
	for b := range rune(256) {
		switch {
		case '!' <= b && b <= '~', '¡' <= b && b <= '¬', '®' <= b && b <= 'ÿ':
			symbols[b] = string(b)
		default:
			symbols[b] = string(next)
			next++
		}
	}
	return symbols
}
