package scheduler

// Remembered counts the numbers that are remembered of an image.
func Remembered(s State) (n int) {
	st, _ := s.(*state)
	for _, x := range st.memory.made {
		for _, v := range x {
			if v != 0 {
				n++
			}
		}
	}
	return n
}
