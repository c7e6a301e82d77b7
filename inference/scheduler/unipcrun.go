package scheduler

// unipcMethod is a laid out run of UniPC.
type unipcMethod struct {
	*unipc
	calls []unipcCall
}

func (m *unipcMethod) start(own *memory) run {
	return &unipcRun{
		unipcMethod: m, outputs: newHistory(m.order+1, own), origin: own.floats(), scratch: m.limit.scratch(own),
	}
}

type unipcRun struct {
	*unipcMethod
	outputs history   // converted
	origin  []float32 // the sample before the last prediction
	scratch []float32
}

func (r *unipcRun) step(call int, x, output []float32, _ Noise) {
	c := &r.calls[call]
	m := r.outputs.push()
	model := r.at(c.level)
	if r.cleanData {
		model.clean(m, x, output)
		r.limit.apply(m, r.scratch)
	} else {
		model.noised(m, x, output)
	}
	if c.correct.order > 0 {
		c.correct.apply(x, r.origin, r.outputs[1:], m)
	}
	copy(r.origin, x)
	c.predict.apply(x, r.origin, r.outputs, nil)
}

// apply writes the step from origin into x. outputs begin with the one at the origin; newest, which a predictor lacks,
// is the one at the end of the step.
func (s *unipcStep) apply(x, origin []float32, outputs history, newest []float32) {
	m0 := outputs[0]
	m1, m2 := m0, m0 // of any content where the order leaves them out
	if s.order > 1 {
		m1 = outputs[1]
	}
	if s.order > 2 {
		m2 = outputs[2]
	}
	last := s.rho[s.order-1]
	for i := range x {
		var sum float32
		if s.order > 1 {
			sum = float32(s.rho[0] * ((m1[i] - m0[i]) / s.distance[0]))
		}
		if s.order > 2 {
			sum += float32(s.rho[1] * ((m2[i] - m0[i]) / s.distance[1]))
		}
		if newest != nil {
			sum += float32(last * (newest[i] - m0[i]))
		}
		x[i] = float32(s.sample*origin[i]) - float32(s.output*m0[i]) - float32(s.difference*sum)
	}
}
