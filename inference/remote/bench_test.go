package remote_test

import (
	"crypto/rand"
	"fmt"
	"testing"
)

// BenchmarkCrossing is what it costs that the engine is another process: a
// photo over, a picture back, and nothing done in between.
func BenchmarkCrossing(b *testing.B) {
	pool := open(b, nil)
	for _, tt := range []struct {
		name           string
		input, picture int
	}{{"nothing", 1, 1}, {"1024x1024 PNG", 0, 3 << 20}, {"1024x1024 PNG both ways", 3 << 20, 3 << 20}, {"largest photo", 20 << 20, 1}} {
		b.Run(tt.name, func(b *testing.B) {
			r := ask(fmt.Sprintf("bytes %d", tt.picture))
			r.Input = make([]byte, tt.input)
			_, _ = rand.Read(r.Input)
			for b.Loop() {
				if _, err := pool.Generate(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(tt.input + tt.picture))
		})
	}
}
