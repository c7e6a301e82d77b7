package onnx

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/imgus/worker/models/onnxfile"
)

// Tensor is a tensor of fixed shape in memory that Go and ONNX Runtime share.
// Floating-point tensors are always read and written as float32: a half
// precision one is converted when a run begins and ends.
type Tensor struct {
	element onnxfile.ElementType
	shape   []int64
	value   ort.Value

	floats []float32
	half   []byte
	int64s []int64
	int32s []int32
	bools  []bool
	// stale: ONNX Runtime has not seen what Go wrote.
	stale bool
}

// NewTensor allocates a tensor of zeros. A nil shape is a scalar.
func NewTensor(element onnxfile.ElementType, shape ...int64) (*Tensor, error) {
	t := &Tensor{element: element, shape: shape}
	count := int64(1)
	for _, n := range shape {
		if n <= 0 {
			return nil, fmt.Errorf("create tensor: shape %v", shape)
		}
		count *= n
	}
	switch element {
	case onnxfile.Float32:
		t.floats = make([]float32, count)
	case onnxfile.Float16:
		t.floats = make([]float32, count)
		t.half = make([]byte, 2*count)
	case onnxfile.Int64:
		t.int64s = make([]int64, count)
	case onnxfile.Int32:
		t.int32s = make([]int32, count)
	case onnxfile.Bool:
		t.bools = make([]bool, count)
	default:
		return nil, fmt.Errorf("create tensor: elements of %s are not supported", element)
	}
	return t, t.create()
}

func (t *Tensor) create() error {
	var err error
	shape := ort.NewShape(t.shape...)
	switch scalar := len(t.shape) == 0; {
	case scalar && t.element == onnxfile.Float32:
		t.value, err = ort.NewScalar(t.floats[0])
	case scalar && t.element == onnxfile.Int64:
		t.value, err = ort.NewScalar(t.int64s[0])
	case scalar && t.element == onnxfile.Int32:
		t.value, err = ort.NewScalar(t.int32s[0])
	case scalar && t.element == onnxfile.Bool:
		t.value, err = ort.NewScalar(t.bools[0])
	case scalar:
		return fmt.Errorf("create tensor: a scalar of %s is not supported", t.element)
	case t.element == onnxfile.Float32:
		t.value, err = ort.NewTensor(shape, t.floats)
	case t.element == onnxfile.Float16:
		t.value, err = ort.NewCustomDataTensor(shape, t.half, ort.TensorElementDataTypeFloat16)
	case t.element == onnxfile.Int64:
		t.value, err = ort.NewTensor(shape, t.int64s)
	case t.element == onnxfile.Bool:
		t.value, err = ort.NewTensor(shape, t.bools)
	default:
		t.value, err = ort.NewTensor(shape, t.int32s)
	}
	if err != nil {
		return fmt.Errorf("create tensor: %w", err)
	}
	return nil
}

// Shape is the tensor's shape.
func (t *Tensor) Shape() []int64 { return t.shape }

// Floats is the content of a floating-point tensor, for the caller to read and
// write. What is written through an earlier call may not be seen by a run.
func (t *Tensor) Floats() []float32 {
	t.stale = true
	return t.floats
}

// SetInt puts an integer into element i of an integer tensor; to one of
// booleans, all but zero is true.
func (t *Tensor) SetInt(i int, v int64) {
	t.stale = true
	switch {
	case t.int64s != nil:
		t.int64s[i] = v
	case t.int32s != nil:
		t.int32s[i] = int32(v) //nolint:gosec // token ids and timesteps are small
	default:
		t.bools[i] = v != 0
	}
}

// SetNumber puts a number into element i; integer tensors drop its fraction, as
// a cast in Python does.
func (t *Tensor) SetNumber(i int, v float32) {
	if t.floats != nil {
		t.stale, t.floats[i] = true, v
		return
	}
	t.SetInt(i, int64(v))
}

// beforeRun makes what Go wrote visible to ONNX Runtime. Conditions that stay
// the same over many runs are converted once.
func (t *Tensor) beforeRun() error {
	if !t.stale {
		return nil
	}
	t.stale = false
	if len(t.shape) == 0 {
		// The binding's Scalar does not see new contents: it is made anew.
		err := t.value.Destroy()
		t.value = nil
		if err != nil {
			return fmt.Errorf("replace scalar: %w", err)
		}
		return t.create()
	}
	if t.half != nil {
		toHalf(t.half, t.floats)
	}
	return nil
}

// afterRun makes what ONNX Runtime wrote visible to Go.
func (t *Tensor) afterRun() {
	if t.half != nil {
		fromHalf(t.floats, t.half)
	}
}

func (t *Tensor) clear() {
	t.stale = true
	clear(t.floats)
	clear(t.half)
	clear(t.int64s)
	clear(t.int32s)
}

func (t *Tensor) destroy() {
	if t.value != nil {
		_ = t.value.Destroy() // frees the handle; the memory is Go's
		t.value = nil
	}
}
