package models

// Reads is how many files of the model's catalogue were read to hash them.
func (m *Model) Reads() int64 { return m.hashes.reads.Load() }

// Settled is how old a change must be to be remembered.
const Settled = settled
