// Package onnxfile reads and edits the protobuf of an ONNX model: its inputs,
// outputs and nodes. It never touches or copies weights. Field numbers are
// those of onnx.proto (onnx/onnx, Apache-2.0).
package onnxfile

import (
	"bytes"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// ElementType is the type of a tensor's elements (onnx TensorProto.DataType).
type ElementType int32

// The element types that models of this family use.
const (
	Float32  ElementType = 1
	Int32    ElementType = 6
	Int64    ElementType = 7
	Bool     ElementType = 9
	Float16  ElementType = 10
	Float64  ElementType = 11
	BFloat16 ElementType = 16
)

func (t ElementType) String() string {
	switch t {
	case Float32:
		return "float32"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Bool:
		return "bool"
	case Float16:
		return "float16"
	case Float64:
		return "float64"
	case BFloat16:
		return "bfloat16"
	default:
		return fmt.Sprintf("type %d", int32(t))
	}
}

// Dynamic is the size of an axis that is known at run time only.
const Dynamic = -1

// Value describes an input or output of the graph.
type Value struct {
	Name string
	Type ElementType
	// Dims has a size per axis; nil is a scalar.
	Dims []int64
}

// Node is one operator of the graph.
type Node struct {
	Name, Op, Domain string
	Inputs, Outputs  []string

	fields message
}

// Model is a parsed ONNX file. It refers to the bytes that it was parsed from.
type Model struct {
	Inputs, Outputs []Value
	Nodes           []Node

	model message
	graph message
}

// Numbers of onnx.proto.
const (
	modelGraph = 7

	graphNode        = 1
	graphInitializer = 5
	graphInput       = 11
	graphOutput      = 12
	graphValueInfo   = 13

	nodeInput  = 1
	nodeOutput = 2
	nodeName   = 3
	nodeOp     = 4
	nodeDomain = 7

	valueName = 1
	valueType = 2

	typeTensor = 1

	tensorElement = 1
	tensorShape   = 2

	shapeDim = 1

	dimValue = 1
	dimParam = 2

	tensorName = 8
)

// Parse reads a model. The data must stay unchanged as long as the model is
// used.
func Parse(data []byte) (*Model, error) {
	model, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	graphBytes, ok := model.bytes(modelGraph)
	if !ok {
		return nil, fmt.Errorf("read model: %w: it has no graph", errBroken)
	}
	graph, err := parse(graphBytes)
	if err != nil {
		return nil, fmt.Errorf("read graph: %w", err)
	}
	m := &Model{model: model, graph: graph}
	if err := m.index(); err != nil {
		return nil, err
	}
	return m, nil
}

// index fills the exported fields from the graph.
func (m *Model) index() error {
	initializers := map[string]bool{}
	for _, b := range m.graph.all(graphInitializer) {
		t, err := parse(b)
		if err != nil {
			return fmt.Errorf("read initializer: %w", err)
		}
		initializers[t.text(tensorName)] = true
	}
	m.Inputs, m.Outputs, m.Nodes = nil, nil, nil
	for _, f := range m.graph {
		if f.kind != protowire.BytesType {
			continue
		}
		switch f.number {
		case graphInput, graphOutput:
			v, err := parseValue(f.payload)
			if err != nil {
				return err
			}
			switch {
			case f.number == graphOutput:
				m.Outputs = append(m.Outputs, v)
			case !initializers[v.Name]: // before IR version 4 weights were inputs too
				m.Inputs = append(m.Inputs, v)
			}
		case graphNode:
			n, err := parse(f.payload)
			if err != nil {
				return fmt.Errorf("read node: %w", err)
			}
			m.Nodes = append(m.Nodes, Node{
				Name: n.text(nodeName), Op: n.text(nodeOp), Domain: n.text(nodeDomain),
				Inputs: n.strings(nodeInput), Outputs: n.strings(nodeOutput), fields: n,
			})
		}
	}
	return nil
}

func parseValue(data []byte) (Value, error) {
	v, err := parse(data)
	if err != nil {
		return Value{}, fmt.Errorf("read value: %w", err)
	}
	out := Value{Name: v.text(valueName)}
	kind, _ := v.bytes(valueType)
	t, err := parse(kind)
	if err != nil {
		return Value{}, fmt.Errorf("read type of a value: %w", err)
	}
	tensorBytes, _ := t.bytes(typeTensor)
	tensor, err := parse(tensorBytes)
	if err != nil {
		return Value{}, fmt.Errorf("read tensor type: %w", err)
	}
	out.Type = ElementType(tensor.integer(tensorElement)) //nolint:gosec // an enum
	shapeBytes, _ := tensor.bytes(tensorShape)
	shape, err := parse(shapeBytes)
	if err != nil {
		return Value{}, fmt.Errorf("read shape: %w", err)
	}
	for _, b := range shape.all(shapeDim) {
		dim, err := parse(b)
		if err != nil {
			return Value{}, fmt.Errorf("read axis: %w", err)
		}
		size := int64(Dynamic)
		for _, f := range dim {
			if f.number == dimValue && f.kind == protowire.VarintType {
				size = dim.integer(dimValue)
			}
		}
		out.Dims = append(out.Dims, size)
	}
	return out, nil
}

// Encode writes the model with its edits.
func (m *Model) Encode() []byte {
	out := bytes.NewBuffer(make([]byte, 0, m.model.size()+m.graph.size()))
	if _, err := m.WriteTo(out); err != nil {
		panic(err) // a buffer takes everything
	}
	return out.Bytes()
}

// WriteTo writes the model with its edits, without another copy of its weights
// in memory.
func (m *Model) WriteTo(w io.Writer) (int64, error) {
	at := -1 // the last graph counts
	for i, f := range m.model {
		if f.number == modelGraph && f.kind == protowire.BytesType {
			at = i
		}
	}
	written := int64(0)
	write := func(data []byte) error {
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return fmt.Errorf("write model: %w", err)
		}
		return nil
	}
	for i, f := range m.model {
		if i != at {
			if err := f.write(write); err != nil {
				return written, err
			}
			continue
		}
		if err := write(header(f.number, m.graph.size())); err != nil {
			return written, err
		}
		for _, g := range m.graph {
			if err := g.write(write); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}
