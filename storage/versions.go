package storage

import "iter"

// OneVersion gives the versions of a store that keeps one of each object.
func OneVersion(objects iter.Seq2[Object, error]) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		for object, err := range objects {
			if !yield(Version{Object: object, Current: err == nil}, err) {
				return
			}
		}
	}
}
