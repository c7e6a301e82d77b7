package diffusion

import "github.com/imgus/worker/inference/noise"

// stepNoise is a row's random generator. What the next step will draw it can
// draw beforehand, while the UNet runs: a generator is one sequence, so it does
// not matter when it is read on.
type stepNoise struct {
	*noise.Generator

	ahead []float32 // what was drawn beforehand
	full  bool
	drew  bool // the last step drew: so will the next
}

// Normal implements scheduler.Noise.
func (s *stepNoise) Normal(dst []float32) {
	s.drew = true
	if s.full && len(dst) == len(s.ahead) {
		copy(dst, s.ahead)
		s.full = false
		return
	}
	s.Generator.Normal(dst)
}

// wanted reports whether it is worth drawing ahead.
func (s *stepNoise) wanted() bool { return s.drew && !s.full }

// draw draws ahead, n values.
func (s *stepNoise) draw(n int) {
	if len(s.ahead) != n {
		s.ahead = make([]float32, n)
	}
	s.Generator.Normal(s.ahead)
	s.full = true
}

// drawer draws ahead for rows in a goroutine of its own.
type drawer struct {
	spans chan []span
	done  chan struct{}
}

func newDrawer() *drawer {
	d := &drawer{spans: make(chan []span), done: make(chan struct{})}
	go func() {
		defer close(d.done)
		for spans := range d.spans {
			for _, r := range spans {
				if r.noise.wanted() {
					r.noise.draw(len(r.latents))
				}
			}
			d.done <- struct{}{}
		}
	}()
	return d
}

// begin lets it draw for the rows if any wants it; await must then follow.
func (d *drawer) begin(spans []span) (await bool) {
	for _, r := range spans {
		if r.noise.wanted() {
			d.spans <- spans
			return true
		}
	}
	return false
}

func (d *drawer) await() { <-d.done }

// close ends the goroutine.
func (d *drawer) close() {
	close(d.spans)
	<-d.done
}
