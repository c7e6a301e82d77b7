package noise_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/noise"
)

// golden is what PyTorch drew; numbers are printed with 9 digits, which name a float32.
type golden struct {
	FP32 []struct {
		Seed   json.Number
		N      int
		First8 []float32
		Last4  []float32
		SHA256 string
	}
	Sequence struct {
		V5     []float32
		V4     []float32
		V32    []float32
		V3     []float32
		V16384 []float32 `json:"v16384_first8"`
	} `json:"sequence_seed7"`
}

func load(t *testing.T) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/torch-cpu-float32.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.FP32) == 0 {
		t.Fatal("no golden cases")
	}
	return g
}

func draw(g *noise.Generator, n int) []float32 {
	dst := make([]float32, n)
	g.Normal(dst)
	return dst
}

func digest(v []float32) string {
	h := sha256.New()
	if err := binary.Write(h, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestNormalEqualsTorch(t *testing.T) {
	for _, c := range load(t).FP32 {
		t.Run(fmt.Sprintf("seed %s n %d", c.Seed, c.N), func(t *testing.T) {
			var seed uint64
			if _, err := fmt.Sscan(c.Seed.String(), &seed); err != nil {
				t.Fatal(err)
			}
			got := draw(noise.New(seed), c.N)
			if d := cmp.Diff(c.First8, got[:len(c.First8)]); d != "" {
				t.Errorf("first values (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.Last4, got[c.N-len(c.Last4):]); d != "" {
				t.Errorf("last values (-want +got):\n%s", d)
			}
			if digest(got) != c.SHA256 {
				t.Errorf("sha256 differs")
			}
		})
	}
}

// One generator draws small and large tensors in turn; the spare value of a small draw waits for the next small one.
func TestNormalSequence(t *testing.T) {
	want := load(t).Sequence
	g := noise.New(7)
	for _, c := range []struct {
		n    int
		want []float32
	}{{5, want.V5}, {4, want.V4}, {32, want.V32}, {3, want.V3}, {16384, want.V16384}} {
		got := draw(g, c.n)
		if d := cmp.Diff(c.want, got[:len(c.want)]); d != "" {
			t.Errorf("n %d (-want +got):\n%s", c.n, d)
		}
	}
}

func TestSeedLow32Bits(t *testing.T) {
	if !slices.Equal(draw(noise.New(5), 64), draw(noise.New(1<<32+5), 64)) {
		t.Error("the high half of a seed must not count")
	}
	if slices.Equal(draw(noise.New(5), 64), draw(noise.New(6), 64)) {
		t.Error("different seeds gave the same noise")
	}
}

// Draws of whole blocks may be cut at block boundaries; the rest of a ragged draw overwrites its last 16 values.
func TestNormalChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		blocks := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 6).Draw(t, "blocks")
		total := 0
		parts := noise.New(seed)
		var joined []float32
		for _, b := range blocks {
			joined = append(joined, draw(parts, 16*b)...)
			total += 16 * b
		}
		whole := draw(noise.New(seed), total)
		if !slices.Equal(whole, joined) {
			t.Fatal("cutting at block boundaries changed the values")
		}

		tail := rapid.IntRange(1, 15).Draw(t, "tail")
		ragged := draw(noise.New(seed), total+tail)
		keep := total + tail - 16
		if !slices.Equal(ragged[:keep], whole[:keep]) {
			t.Fatal("a tail changed values before the last 16")
		}
		for i, v := range ragged {
			if math.IsNaN(float64(v)) || math.Abs(float64(v)) > 6 {
				t.Fatalf("value %d is %v", i, v)
			}
		}
	})
}

func TestNormalDoesNotAllocate(t *testing.T) {
	g := noise.New(1)
	dst := make([]float32, 1000)
	small := make([]float32, 7)
	if n := testing.AllocsPerRun(20, func() { g.Normal(dst); g.Normal(small) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNormal(b *testing.B) {
	g := noise.New(1)
	dst := make([]float32, 4*64*64) // the latents of a 512 x 512 image
	b.SetBytes(int64(4 * len(dst)))
	for b.Loop() {
		g.Normal(dst)
	}
}
