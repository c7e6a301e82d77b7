// Package onnxtest makes other exports of a model for tests: other types, names
// and shapes of its inputs and outputs around the same graph, as exporters
// differ in them.
package onnxtest

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models/onnxfile"
)

// Change is what another exporter would have done to an input or output. Zero
// fields stay.
type Change struct {
	Name string // as it is
	As   string // as it shall be
	Type onnxfile.ElementType
	Dims []int64 // onnxfile.Dynamic for a dynamic axis
}

// Numbers of onnx.proto.
const (
	modelGraph                                    = 7
	graphNode, graphInput, graphOutput, graphInfo = 1, 11, 12, 13
	nodeInput, nodeOutput, nodeOp, nodeAttribute  = 1, 2, 4, 5
	attributeName, attributeInt, attributeType    = 1, 3, 20
	attributeTypeInt                              = 2
	valueName, valueType                          = 1, 2
	typeTensor, tensorElement, tensorShape        = 1, 1, 2
	shapeDim, dimValue, dimParam                  = 1, 1, 2
)

// Reexport returns the model with the changes.
func Reexport(t testing.TB, model []byte, changes ...Change) []byte {
	t.Helper()
	for _, c := range changes {
		model = change(t, model, c)
	}
	return model
}

func change(t testing.TB, model []byte, c Change) []byte {
	t.Helper()
	parsed, err := onnxfile.Parse(model)
	if err != nil {
		t.Fatal(err)
	}
	value, input, found := find(parsed, c.Name)
	if !found {
		t.Fatalf("no input or output %s", c.Name)
	}
	to := onnxfile.Value{Name: c.As, Type: c.Type, Dims: c.Dims}
	if to.Name == "" {
		to.Name = value.Name
	}
	if to.Type == 0 {
		to.Type = value.Type
	}
	if to.Dims == nil {
		to.Dims = value.Dims
	}
	inner := c.Name + "/inner"
	return edit(t, model, modelGraph, func(graph []byte) []byte {
		var out []byte
		if input {
			out = appendBytes(out, graphNode, cast(to.Name, inner, value.Type))
		}
		each(t, graph, func(number protowire.Number, field, content []byte) {
			switch number {
			case graphNode:
				out = appendBytes(out, graphNode, renameIn(t, content, c.Name, inner))
			case graphInput, graphOutput:
				if (number == graphInput) == input && nameOf(t, content) == c.Name {
					out = appendBytes(out, number, encodeValue(to))
					return
				}
				out = append(out, field...)
			case graphInfo: // the shapes noted for intermediate results
			default:
				out = append(out, field...)
			}
		})
		if !input {
			out = appendBytes(out, graphNode, cast(inner, to.Name, to.Type))
		}
		return out
	})
}

func find(m *onnxfile.Model, name string) (v onnxfile.Value, input, found bool) {
	for _, v := range m.Inputs {
		if v.Name == name {
			return v, true, true
		}
	}
	for _, v := range m.Outputs {
		if v.Name == name {
			return v, false, true
		}
	}
	return v, false, false
}

// renameIn renames a value wherever the node reads or makes it.
func renameIn(t testing.TB, node []byte, from, to string) []byte {
	t.Helper()
	var out []byte
	each(t, node, func(number protowire.Number, field, content []byte) {
		if (number == nodeInput || number == nodeOutput) && string(content) == from {
			out = appendBytes(out, number, []byte(to))
			return
		}
		out = append(out, field...)
	})
	return out
}

func cast(from, to string, element onnxfile.ElementType) []byte {
	var attribute []byte
	attribute = appendBytes(attribute, attributeName, []byte("to"))
	attribute = appendInt(attribute, attributeInt, uint64(element))
	attribute = appendInt(attribute, attributeType, attributeTypeInt)
	var node []byte
	node = appendBytes(node, nodeInput, []byte(from))
	node = appendBytes(node, nodeOutput, []byte(to))
	node = appendBytes(node, nodeOp, []byte("Cast"))
	return appendBytes(node, nodeAttribute, attribute)
}

func encodeValue(v onnxfile.Value) []byte {
	var shape []byte
	for _, size := range v.Dims {
		var dim []byte
		if size == onnxfile.Dynamic {
			dim = appendBytes(dim, dimParam, []byte("axis"))
		} else {
			dim = appendInt(dim, dimValue, uint64(size))
		}
		shape = appendBytes(shape, shapeDim, dim)
	}
	tensor := appendInt(nil, tensorElement, uint64(v.Type))
	tensor = appendBytes(tensor, tensorShape, shape)
	out := appendBytes(nil, valueName, []byte(v.Name))
	return appendBytes(out, valueType, appendBytes(nil, typeTensor, tensor))
}

func nameOf(t testing.TB, value []byte) (name string) {
	t.Helper()
	each(t, value, func(number protowire.Number, _, content []byte) {
		if number == valueName {
			name = string(content)
		}
	})
	return name
}

// edit replaces the content of a message's one field.
func edit(t testing.TB, message []byte, number protowire.Number, change func([]byte) []byte) []byte {
	t.Helper()
	var out []byte
	each(t, message, func(n protowire.Number, field, content []byte) {
		if n == number {
			out = appendBytes(out, n, change(content))
			return
		}
		out = append(out, field...)
	})
	return out
}

// each visits the fields of a message: the whole field, and its content.
func each(t testing.TB, message []byte, visit func(number protowire.Number, field, content []byte)) {
	t.Helper()
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		content := message[n : n+size]
		if kind == protowire.BytesType {
			content, _ = protowire.ConsumeBytes(content)
		}
		visit(number, bytes.Clone(message[:n+size]), content)
		message = message[n+size:]
	}
}

func appendBytes(b []byte, number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), content)
}

func appendInt(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}
