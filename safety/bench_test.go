package safety_test

import (
	"fmt"
	"strings"
	"testing"
)

// The longest prompt that a job may have, against a long list.
func BenchmarkRefuses(b *testing.B) {
	var entries strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&entries, "word%dx\n", i)
	}
	list := parse(b, entries.String())
	for name, prompt := range map[string]string{
		"prose": strings.Repeat("a portrait of an old man in a boat, ", 111), "letters": strings.Repeat("a b", 1333), "glued": strings.Repeat("a-bc", 1000),
		"signs": strings.Repeat("w+o!", 1000), "digits": strings.Repeat("1!w!1-", 666), "apart": strings.Repeat("w 1 ", 1000),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if list.Refuses(prompt) {
					b.Fatal("refused")
				}
			}
		})
	}
}
