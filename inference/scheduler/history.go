package scheduler

// history holds what the last few calls left, newest first.
type history [][]float32

func newHistory(length int, own *memory) history {
	h := make(history, length)
	for i := range h {
		h[i] = own.floats()
	}
	return h
}

// push makes room for a newest entry, in the buffer of the oldest, and returns it.
func (h history) push() []float32 {
	oldest := h[len(h)-1]
	copy(h[1:], h)
	h[0] = oldest
	return oldest
}
