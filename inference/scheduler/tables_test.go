package scheduler

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"
)

func digest(v []float32) string {
	h := sha256.New()
	if err := binary.Write(h, binary.LittleEndian, v); err != nil {
		panic(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// The tables of PyTorch, bit by bit.
func TestTrainingTables(t *testing.T) {
	data, err := os.ReadFile("testdata/tables.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Cases []struct {
			Name   string
			Config json.RawMessage
			Betas  string `json:"betas_sha256"`
			Alphas string `json:"alphas_cumprod_sha256"`
			Sigmas string `json:"sigmas_sha256"`
		}
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Cases) == 0 {
		t.Fatal("no golden cases")
	}
	for _, c := range golden.Cases {
		t.Run(c.Name, func(t *testing.T) {
			config, err := ParseConfig(c.Config)
			if err != nil {
				t.Fatal(err)
			}
			table, err := newTraining(config, betaDefaults{start: 0.0001, end: 0.02, schedule: "linear", zeroSNR: exactZeroSNR})
			if err != nil {
				t.Fatal(err)
			}
			if digest(table.betas) != c.Betas {
				t.Error("betas differ")
			}
			if digest(table.alphasCumprod) != c.Alphas {
				t.Error("alphas_cumprod differ")
			}
			if digest(table.sigmas) != c.Sigmas {
				t.Error("sigmas differ")
			}
		})
	}
}

// The reference's elementary functions are not correctly rounded, and its timesteps and weights depend on that.
func TestElementaryFunctions(t *testing.T) {
	data, err := os.ReadFile("testdata/elementary.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Rows [][4]float32 }
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Rows) == 0 {
		t.Fatal("no golden rows")
	}
	misses := 0
	for _, row := range golden.Rows {
		x := row[0]
		if got := exp(x); got != row[1] {
			t.Errorf("exp(%v) = %v, want %v", x, got, row[1])
		}
		if x <= 0 {
			continue
		}
		if got := numpyLog(x); got != row[2] {
			t.Errorf("numpyLog(%v) = %v, want %v", x, got, row[2])
		}
		if log(x) != row[3] {
			misses++
		}
	}
	if misses > 2 {
		t.Errorf("%d of %d logarithms differ", misses, len(golden.Rows))
	}
	for x, want := range map[float32]float64{0: math.Inf(-1), 1: 0} {
		if got := log(x); float64(got) != want {
			t.Errorf("log(%v) = %v", x, got)
		}
	}
	if exp(float32(math.Inf(-1))) != 0 || !math.IsInf(float64(exp(float32(math.Inf(1)))), 1) {
		t.Error("exp of the infinities")
	}
}

func TestBetaQuantileInvertsItsDistribution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.Float64Range(1e-9, 0.5).Draw(t, "p")
		x := betaQuantile(p, 0.6)
		if got := betaCDF(x, 0.6); math.Abs(got-p) > 1e-13 {
			t.Fatalf("CDF(quantile(%v)) = %v", p, got)
		}
		if mirrored := betaQuantile(1-p, 0.6); math.Abs(mirrored+x-1) > 1e-12 {
			t.Fatalf("quantiles of %v and its complement are %v and %v", p, x, mirrored)
		}
	})
	// Beta(1/2, 1/2) is the arcsine distribution.
	for _, p := range []float64{0.01, 0.2, 0.5, 0.77} {
		want := math.Pow(math.Sin(math.Pi*p/2), 2)
		if got := betaQuantile(p, 0.5); math.Abs(got-want) > 1e-13 {
			t.Errorf("quantile %v is %v, want %v", p, got, want)
		}
	}
}
