//go:build failpoints

package failpoint

import (
	"os"
	"sync"
)

var orders = sync.OnceValue(func() *plan {
	p, err := parse(os.Getenv(Variable))
	if err != nil {
		panic(err) // a test that orders nonsense must not pass
	}
	return p
})

// Hit marks that the program has come to the point.
func Hit(p Point) { orders().hit(p) }
