package local

import (
	"math"
	"slices"
)

// footprint is what is known of a model's need of memory on a device, in bytes.
// It outlives the model's stay there.
type footprint struct {
	// weights are of the model's files, or what the process grew by, which is
	// more where half precision is computed in full.
	weights int64
	// unet and vae are what working takes beyond, by the pixels of a call: of
	// all samples together, and of a tile.
	unet, vae curve
	// crowds are batches for which the device had too little memory, and
	// vaeLimit, if not 0, is how many pixels the VAE may take at once since.
	crowds   []crowd
	vaeLimit int64
}

// crowd is a batch of samples of so many pixels each.
type crowd struct {
	pixels  int64
	samples int
}

// curve is measured memory by load, both growing.
type curve []measurement

type measurement struct{ load, bytes int64 }

// add takes a measurement in. A larger load never takes less.
func (c *curve) add(load, bytes int64) {
	i, found := slices.BinarySearchFunc(*c, load, func(m measurement, load int64) int { return int(m.load - load) })
	if !found {
		*c = slices.Insert(*c, i, measurement{load: load})
	}
	(*c)[i].bytes = max((*c)[i].bytes, bytes)
	for k := 1; k < len(*c); k++ {
		(*c)[k].bytes = max((*c)[k].bytes, (*c)[k-1].bytes)
	}
}

// at estimates what a load takes: between measurements on the line that joins
// them, which begins at nothing, and beyond them as steep as from the first to
// the last. Attention may grow faster, so that a job is rather tried in vain
// than refused for nothing.
func (c *curve) at(load int64) int64 {
	if len(*c) == 0 {
		return 0
	}
	from, to := measurement{}, (*c)[len(*c)-1]
	switch i := slices.IndexFunc(*c, func(m measurement) bool { return m.load >= load }); {
	case i > 0:
		from, to = (*c)[i-1], (*c)[i]
	case i == 0:
		to = (*c)[0]
	case len(*c) > 1:
		from = (*c)[0]
	}
	slope := float64(to.bytes-from.bytes) / float64(to.load-from.load)
	return to.bytes + int64(math.Round(slope*float64(load-to.load)))
}

// margin is on top of a measurement: the same work does not always take the
// same memory.
const margin = 1.2

func withMargin(bytes int64) int64 { return int64(math.Ceil(float64(bytes) * margin)) }

// demand is what a job asks of a model.
type demand struct {
	// pixels of one image; samples, in all, of the UNet's batch.
	pixels  int64
	samples int
	// tiling: the VAE may work in tiles.
	tiling bool
}

// plan is how a job is worked on: at most so many samples at once (0: all), the
// VAE in tiles of that share of a side (0: whole).
type plan struct {
	batch int
	tile  float64
	// bytes are what the model then takes, weights and all.
	bytes int64
}

// smallestTile is the smallest share of a side that a tile may have, and tiles
// are all of them, the best first: the larger the tile, the nearer its pixels
// are to those of the whole picture.
const smallestTile = 0.25

var tiles = []float64{0, 0.75, 0.5, 0.375, smallestTile}

// plan finds how the job fits into room bytes: with as large a batch as fits,
// and in tiles only if nothing else helps. held is what the model holds
// already, beside its weights. The plan that takes least comes back with false
// if none fits. Room below zero is no bound.
func (f *footprint) plan(d demand, held working, room int64) (plan, bool) {
	var p plan
	for _, tile := range tiles {
		if tile > 0 && !d.tiling {
			break
		}
		if d.tiling && f.vaeLimit > 0 && tilePixels(d.pixels, tile) > f.vaeLimit && tile != smallestTile {
			continue
		}
		for batch := f.batch(d); ; batch = (batch + 1) / 2 {
			p = plan{batch: batch, tile: tile, bytes: f.weights + f.need(d.pixels, batch, tile).over(held).bytes()}
			if room < 0 || p.bytes <= room {
				return p, true
			}
			if batch == 1 {
				break
			}
		}
	}
	return p, false
}

// crowded learns from an out-of-memory, of the VAE or the UNet, and reports
// whether the next plan will be a smaller one.
func (f *footprint) crowded(d demand, tried plan, inVAE bool) bool {
	smaller := tried.batch > 1
	if smaller {
		f.crowds = append(f.crowds, crowd{d.pixels, tried.batch})
	}
	if inVAE && d.tiling && tried.tile != smallestTile {
		f.vaeLimit = tilePixels(d.pixels, tried.tile) * 3 / 5 // the next smaller tiles
		smaller = true
	}
	return smaller
}

// batch is how many samples may be tried at once.
func (f *footprint) batch(d demand) int {
	n := d.samples
	for _, c := range f.crowds {
		if d.pixels >= c.pixels {
			n = min(n, max(c.samples/2, 1))
		}
	}
	return n
}

// working is memory beside the weights. ONNX Runtime's arenas keep what they
// once took.
type working struct{ unet, vae int64 }

func (w working) bytes() int64 { return w.unet + w.vae }

func (w working) over(o working) working { return working{max(w.unet, o.unet), max(w.vae, o.vae)} }

func (f *footprint) need(pixels int64, samples int, tile float64) working {
	return working{
		unet: withMargin(f.unet.at(pixels * int64(samples))),
		vae:  withMargin(f.vae.at(tilePixels(pixels, tile))),
	}
}

func tilePixels(pixels int64, tile float64) int64 {
	if tile == 0 {
		return pixels
	}
	return int64(float64(pixels) * tile * tile)
}
