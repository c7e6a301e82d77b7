package local

import (
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/models"
)

// What tests outside need of the inside.
type (
	Pipeline  = pipeline
	Footprint = footprint
	Curve     = curve
	Demand    = demand
	Plan      = plan
	Working   = working
)

// NewEngine makes an engine without ONNX Runtime: open loads models, and measure,
// if not nil, tells the process's bytes. GPU is asked by devices of CUDA.
func NewEngine(o Options, open func(m *models.Model) (Pipeline, error), measure func() int64, card gpu) (*Engine, error) {
	e := &Engine{options: o, opener: func(m *models.Model, _ onnx.Options) (pipeline, error) { return open(m) }, version: "none"}
	return e, e.start(func(d onnx.Device) gauge {
		if d != onnx.CPU && card != nil {
			return gaugeOf(card)
		}
		return gauge{facts: func() inference.Device { return inference.Device{} }, own: measure}
	}, func(onnx.Options) error { return nil })
}

// GPU is what is asked of one.
type GPU = gpu

var (
	Budget     = budget
	HostMemory = hostMemory

	CountThreads = threads
)

// Add adds a measurement.
func (c *curve) Add(load, bytes int64) { c.add(load, bytes) }

// At estimates.
func (c *curve) At(load int64) int64 { return c.at(load) }

// NewFootprint makes what is known of a model.
func NewFootprint(weights int64, unet, vae curve) *footprint {
	return &footprint{weights: weights, unet: unet, vae: vae}
}

// NewDemand makes what a job asks for.
func NewDemand(pixels int64, samples int, tiling bool) demand { return demand{pixels, samples, tiling} }

// Plan plans, and gives the batch, the tile and the bytes.
func (f *footprint) Plan(d demand, heldUNet, heldVAE, room int64) (batch int, tile float64, bytes int64, ok bool) {
	p, ok := f.plan(d, working{heldUNet, heldVAE}, room)
	return p.batch, p.tile, p.bytes, ok
}

// Crowded learns of an out-of-memory of a plan.
func (f *footprint) Crowded(d demand, batch int, tile float64, inVAE bool) bool {
	return f.crowded(d, plan{batch: batch, tile: tile}, inVAE)
}

// Gibibytes writes a number of bytes.
var Gibibytes = gibibytes
