package diffusion

import (
	"fmt"
	"math"

	"github.com/imgus/worker/inference/onnx"
)

// The VAE's memory grows with the picture. Where there is too little, a picture
// is cut into overlapping tiles, whose pixels are blended linearly as
// AutoencoderKL.tiled_decode does it. Tiles are all of one size, which needs one
// set of tensors.
//
// Pixels change, since in a tile the group norms see the tile alone, and so does
// attention: the smaller the tile and the more uneven the picture, the more. Of
// the demo model at 512 x 512 they change by 0.2 to 0.9 of 255 on average with
// tiles of three quarters of each side (56 % of the memory, 2.25 times the
// work), and by 0.4 to 1.1 with half of each; of weights that are random, by up
// to 6. More overlap hardly helps.

// overlap is what neighbours share at least, of a tile's side (diffusers'
// tile_overlap_factor).
const overlap = 0.25

// smallestTile is the smallest side of a tile, in latents.
const smallestTile = 8

// axis is one side of a picture, cut into tiles, in latents.
type axis struct {
	size, overlap int
	starts        []int
}

// newAxis cuts a side into tiles of the share of it.
func newAxis(length int, share float64) axis {
	size := min(max(int(math.Ceil(float64(length)*share)), smallestTile), length)
	a := axis{size: size, overlap: max(int(float64(size)*overlap), 1), starts: []int{0}}
	stride := max(size-a.overlap, 1)
	last := (length - size + stride - 1) / stride
	for i := 1; i <= last; i++ {
		a.starts = append(a.starts, i*(length-size)/last)
	}
	return a
}

// weight is how much tile i counts at element x of the whole side, where scale
// elements stand for a latent. Over all tiles the weights sum to one. The ramp
// stands in the middle of what neighbours share, as far as can be from borders
// beyond which a tile sees nothing.
func (a axis) weight(i, x, scale int) float32 {
	w := float32(1)
	if i > 0 {
		w = a.ramp(i, x, scale)
	}
	if i+1 < len(a.starts) {
		w = min(w, 1-a.ramp(i+1, x, scale))
	}
	return w
}

// ramp goes from zero to one between tile i-1 and tile i.
func (a axis) ramp(i, x, scale int) float32 {
	middle := float32((a.starts[i]+a.starts[i-1]+a.size)*scale) / 2
	width := float32(a.overlap * scale)
	return min(max((float32(x)+0.5-middle)/width+0.5, 0), 1)
}

// weights are the weights of tile i over its own elements.
func (a axis) weights(i, scale int) []float32 {
	w := make([]float32, a.size*scale)
	for k := range w {
		w[k] = a.weight(i, a.starts[i]*scale+k, scale)
	}
	return w
}

// plane is what a codec reads or writes: its channels, and how many elements of
// a side stand for a latent.
type plane struct{ channels, scale int }

func (p plane) shape(h, w int) []int64 {
	return []int64{1, int64(p.channels), int64(h * p.scale), int64(w * p.scale)}
}

// runPlanes runs the codec over x, of height h and width w in latents: at once,
// or in tiles of the share of each side. The result is valid until the next run.
func (c *codec) runPlanes(stop *onnx.Stop, x []float32, h, w int, share float64, from, to plane) ([]float32, error) {
	if share == 0 {
		share = 1
	}
	rows, columns := newAxis(h, share), newAxis(w, share)
	if err := checkElements(rows.size, columns.size, max(from.scale, to.scale)); err != nil {
		return nil, err
	}
	in, out := from.shape(rows.size, columns.size), to.shape(rows.size, columns.size)
	if len(rows.starts)*len(columns.starts) == 1 {
		return c.run(stop, x, in, out)
	}
	tile := make([]float32, from.channels*int(in[2]*in[3]))
	defer clear(tile)
	whole := make([]float32, to.channels*h*w*to.scale*to.scale)
	for i, top := range rows.starts {
		for j, left := range columns.starts {
			cut(tile, x, w*from.scale, h*from.scale, top*from.scale, left*from.scale, int(in[2]), int(in[3]))
			result, err := c.run(stop, tile, in, out)
			if err != nil {
				return nil, err
			}
			blend(whole, result, w*to.scale, h*to.scale, top*to.scale, left*to.scale, rows.weights(i, to.scale), columns.weights(j, to.scale))
		}
	}
	return whole, nil
}

// cuDNN counts a tensor's elements in 31 bits; the VAE's largest has
// widestChannels at the picture's full size.
const (
	maxElements    = 1 << 31
	widestChannels = 256
)

func checkElements(h, w, factor int) error {
	if int64(h)*int64(w)*int64(factor)*int64(factor)*widestChannels >= maxElements {
		return fmt.Errorf("%w: the VAE cannot take %d x %d pixels at once", onnx.ErrOutOfMemory, w*factor, h*factor)
	}
	return nil
}

// cut copies the tile at top and left, th x tw, out of planes of h x w.
func cut(tile, x []float32, w, h, top, left, th, tw int) {
	for row := range len(tile) / tw {
		c, y := row/th, row%th
		at := (c*h+top+y)*w + left
		copy(tile[row*tw:(row+1)*tw], x[at:at+tw])
	}
}

// blend adds the tile at top and left, by its weights, to planes of h x w.
func blend(whole, tile []float32, w, h, top, left int, down, across []float32) {
	tw, th := len(across), len(down)
	for row := range len(tile) / tw {
		c, y := row/th, row%th
		at := (c*h+top+y)*w + left
		to := whole[at : at+tw]
		for x, v := range tile[row*tw : (row+1)*tw] {
			to[x] += float32(v * float32(down[y]*across[x]))
		}
	}
}
