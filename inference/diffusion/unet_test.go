package diffusion_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/imgus/worker/inference/diffusion"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/models/onnxfile"
)

// A graph that does not load with a timestep per sample is loaded as it is; what
// is no fault of the edit is not tried again.
func TestUneditedGraphAsFallback(t *testing.T) {
	edited, whole := errors.New("invalid graph"), errors.New("invalid model")
	for name, tt := range map[string]struct {
		answers []error
		want    error
		warned  bool
	}{
		"the edit works":      {[]error{nil}, nil, false},
		"the edit fails":      {[]error{edited, nil}, nil, true},
		"the graph is broken": {[]error{edited, whole}, edited, false},
		"no memory":           {[]error{onnx.ErrOutOfMemory}, onnx.ErrOutOfMemory, false},
		"no device":           {[]error{onnx.ErrDeviceLost}, onnx.ErrDeviceLost, false},
	} {
		asked, warned := []error{}, false
		session, err := diffusion.LoadUNet(func(func(*onnxfile.Model) (bool, error)) (*onnx.Session, error) {
			answer := tt.answers[len(asked)]
			asked = append(asked, answer)
			if answer != nil {
				return nil, answer
			}
			return &onnx.Session{}, nil
		}, func(string, error) { warned = true })
		if !errors.Is(err, tt.want) || (err == nil) != (session != nil) || warned != tt.warned || !slices.Equal(asked, tt.answers) {
			t.Errorf("%s: got %v, %v, warned %t after %v", name, session, err, warned, asked)
		}
	}
}
