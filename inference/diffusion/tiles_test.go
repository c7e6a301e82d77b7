package diffusion_test

import (
	"math"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/demo"
)

// Tiles cover the side, and at each element their weights sum to one.
func TestTilesSumToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length, scale := rapid.IntRange(1, 256).Draw(t, "length"), rapid.SampledFrom([]int{1, 8}).Draw(t, "scale")
		share := rapid.Float64Range(0.01, 1).Draw(t, "share")
		starts, size, weights := diffusion.Tiles(length, share, scale)
		sum := make([]float32, length*scale)
		for i, start := range starts {
			if start < 0 || start+size > length {
				t.Fatalf("tile at %d of size %d is not within %d", start, size, length)
			}
			for k, w := range weights[i] {
				sum[start*scale+k] += w
			}
		}
		for x, w := range sum {
			if math.Abs(float64(w)-1) > 1e-4 {
				t.Fatalf("at %d the weights sum to %v", x, w)
			}
		}
	})
}

func TestElementsOfATensor(t *testing.T) {
	// 2048 x 2048 are the largest picture of a job.
	for side, fits := range map[int]bool{64: true, 256: true, 361: true, 363: false} {
		if err := diffusion.CheckElements(side, side, 8); (err == nil) != fits {
			t.Errorf("%d x %d latents: %v", side, side, err)
		}
	}
}

func openModel(t *testing.T, files diffusion.Files) (*diffusion.Pipeline, *onnx.Stop) {
	t.Helper()
	rt, err := onnx.Open(testservices.ONNXRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rt.Close() })
	p, err := diffusion.Open(rt, files, onnx.Options{Device: onnx.CPU})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	stop, err := onnx.NewStop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop.Close)
	return p, stop
}

func folder(name string) diffusion.Files {
	dir := "../../testdata/models/" + name
	return diffusion.Files{FS: os.DirFS(dir), Dir: dir}
}

// photo is a picture of 512 x 512 with gradients and an edge.
func photo() []float32 {
	const side = 512
	x := make([]float32, 3*side*side)
	for i := range x {
		c, y, x1 := i/(side*side), float64(i/side%side), float64(i%side)
		v := 0.5*math.Sin(x1/37*float64(c+1)) + 0.4*math.Cos(y/51+float64(c))
		if math.Hypot(x1-300, y-200) < 90 {
			v = []float64{0.9, -0.7, -0.8}[c]
		}
		x[i] = float32(v)
	}
	return x
}

// A tiled decode stays near the whole one: the nearer, the larger the tiles.
// How near depends on the model, since a tile's group norms see the tile alone;
// sd1 has random weights, and no trained model's robustness.
func TestTiledDecode(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files diffusion.Files
		mean  map[float64]float64 // in 1/255, by the share of a side
		seam  float64
	}{
		{"demo", diffusion.Files{FS: demo.Files()}, map[float64]float64{0.75: 1, 0.5: 1.25}, 1},
		{"sd1", folder("sd1"), map[float64]float64{0.75: 4, 0.5: 8}, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, stop := openModel(t, tt.files)
			latents, err := p.Encode(stop, photo(), 64, 64, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range latents {
				latents[i] *= p.Scale()
			}
			whole, err := p.Decode(stop, latents, 64, 64, 0)
			if err != nil {
				t.Fatal(err)
			}
			for share, most := range tt.mean {
				tiled, err := p.Decode(stop, latents, 64, 64, share)
				if err != nil {
					t.Fatal(err)
				}
				mean := difference(whole, tiled)
				t.Logf("tiles of %v of each side: %.2f/255, seams %.2f/255", share, mean, seam(whole, tiled))
				if mean > most {
					t.Errorf("tiles of %v of each side differ by %.2f/255 on average", share, mean)
				}
				if seams := seam(whole, tiled); seams > tt.seam {
					t.Errorf("tiles of %v of each side: a line stands out by %.2f/255", share, seams)
				}
			}
		})
	}
}

func TestTiledEncode(t *testing.T) {
	p, stop := openModel(t, diffusion.Files{FS: demo.Files()})
	whole, err := p.Encode(stop, photo(), 64, 64, 0)
	if err != nil {
		t.Fatal(err)
	}
	tiled, err := p.Encode(stop, photo(), 64, 64, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	var sum, size float64
	for i := range whole {
		sum += math.Abs(float64(whole[i] - tiled[i]))
		size += math.Abs(float64(whole[i]))
	}
	if sum > size*0.02 {
		t.Errorf("latents differ by %.1f %%", 100*sum/size)
	}
}

func channel(v float32) float64 { return 255 * min(max(float64(v)/2+0.5, 0), 1) }

// difference is the mean difference of 8-bit channels.
func difference(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += math.Abs(math.Round(channel(a[i])) - math.Round(channel(b[i])))
	}
	return sum / float64(len(a))
}

// seam is how far the most conspicuous row of b - a jumps from its neighbour,
// on average over the row, in 1/255: a seam would be a step along a line.
func seam(a, b []float32) float64 {
	const side = 512
	worst := 0.0
	for y := 1; y < side; y++ {
		var jump float64
		for x := range side {
			i := y*side + x
			jump += channel(b[i]) - channel(a[i]) - channel(b[i-side]) + channel(a[i-side])
		}
		worst = max(worst, math.Abs(jump)/side)
	}
	return worst
}

// Pictures do not depend on how many samples the UNet takes at once.
func TestMaxBatch(t *testing.T) {
	gray := make([]float32, 3*64*64)
	for i := range gray {
		gray[i] = float32(i%7)/7 - 0.5
	}
	for _, tt := range []struct {
		model string
		task  diffusion.Task
	}{
		{"sd1", diffusion.Task{Kind: job.TextToImage, Guidance: 7.5, Scheduler: "euler-a"}},
		{"sd1", diffusion.Task{Kind: job.TextToImage, Guidance: 1, Scheduler: "dpmpp-2m"}},
		{"sdxl", diffusion.Task{Kind: job.TextToImage, Guidance: 5, Scheduler: "pndm"}},
		{"pix2pix", diffusion.Task{Kind: job.ImageToImage, Guidance: 7.5, ImageGuidance: 1.5, Photo: gray}},
	} {
		t.Run(tt.model, func(t *testing.T) {
			p, _ := openModel(t, folder(tt.model))
			task := tt.task
			task.Prompt, task.Width, task.Height, task.Steps, task.Strength, task.Seeds = "a circle", 64, 64, 4, 1, []int64{1, 2, 3}
			want := generate(t, p, task)
			for _, most := range []int{1, 2, 3, 4, 100} {
				task.MaxBatch = most
				for i, got := range generate(t, p, task) {
					if mean := difference(want[i], got); mean > 0.02 {
						t.Errorf("at most %d: image %d differs by %.3f on average", most, i, mean)
					}
				}
			}
		})
	}
}

func generate(t *testing.T, p *diffusion.Pipeline, task diffusion.Task) [][]float32 {
	t.Helper()
	var images [][]float32
	err := p.Generate(t.Context(), task, func(job.Progress) {}, func(_ int, pixels []float32) error {
		images = append(images, append([]float32(nil), pixels...))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return images
}
