package onnxtest

import (
	"encoding/binary"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models/onnxfile"
)

// Numbers of onnx.proto, and versions that every ONNX Runtime of today reads.
const (
	modelIR, modelOpset, opsetVersion, graphName = 1, 8, 2, 2
	irVersion, opset                             = 8, 17
)

// Passthrough is a model that gives one of its inputs back: it costs nothing,
// and so shows what everything around it costs.
func Passthrough(inputs []onnxfile.Value, from string, output onnxfile.Value) []byte {
	node := appendBytes(nil, nodeInput, []byte(from))
	node = appendBytes(node, nodeOutput, []byte(output.Name))
	node = appendBytes(node, nodeOp, []byte("Identity"))
	graph := appendBytes(nil, graphNode, node)
	graph = appendBytes(graph, graphName, []byte("passthrough"))
	for _, v := range inputs {
		graph = appendBytes(graph, graphInput, encodeValue(v))
	}
	graph = appendBytes(graph, graphOutput, encodeValue(output))
	model := appendInt(nil, modelIR, irVersion)
	model = appendBytes(model, modelOpset, appendInt(nil, opsetVersion, opset))
	return appendBytes(model, modelGraph, graph)
}

const tensorDims, tensorType, tensorNameField = 1, 2, 8

// ConstantHalf is a model that gives the same half-precision number throughout,
// whatever it is fed: an overflow, for instance. The output's shape is fixed.
func ConstantHalf(t testing.TB, input, output onnxfile.Value, bits uint16) []byte {
	t.Helper()
	count := int64(1)
	var tensor []byte
	for _, n := range output.Dims {
		tensor = appendInt(tensor, tensorDims, uint64(n))
		count *= n
	}
	tensor = appendInt(tensor, tensorType, uint64(onnxfile.Float16))
	tensor = appendBytes(tensor, tensorNameField, []byte("constant"))
	raw := make([]byte, 0, 2*count)
	for range count {
		raw = binary.LittleEndian.AppendUint16(raw, bits)
	}
	tensor = appendBytes(tensor, tensorRaw, raw)
	model := Passthrough([]onnxfile.Value{input}, "constant", output)
	return withInitializer(t, model, tensor)
}

// withInitializer appends a weight to the graph, which Passthrough writes last.
func withInitializer(t testing.TB, model, tensor []byte) []byte {
	t.Helper()
	var out []byte
	each(t, model, func(number protowire.Number, field, content []byte) {
		if number == modelGraph {
			field = appendBytes(nil, number, appendBytes(content, graphInitializer, tensor))
		}
		out = append(out, field...)
	})
	return out
}

// ChannelMeans is a model that gives the mean of each channel of a picture of
// NCHW, 1 x 3: an image classifier that everybody can do in their head.
func ChannelMeans(input, output string, h, w int64) []byte {
	node := func(op, from, to string) []byte {
		node := appendBytes(nil, nodeInput, []byte(from))
		node = appendBytes(node, nodeOutput, []byte(to))
		return appendBytes(node, nodeOp, []byte(op))
	}
	graph := appendBytes(nil, graphNode, node("GlobalAveragePool", input, "means"))
	graph = appendBytes(graph, graphNode, node("Flatten", "means", output))
	graph = appendBytes(graph, graphName, []byte("channel means"))
	graph = appendBytes(graph, graphInput, encodeValue(onnxfile.Value{Name: input, Type: onnxfile.Float32, Dims: []int64{onnxfile.Dynamic, 3, h, w}}))
	graph = appendBytes(graph, graphOutput, encodeValue(onnxfile.Value{Name: output, Type: onnxfile.Float32, Dims: []int64{onnxfile.Dynamic, 3}}))
	model := appendInt(nil, modelIR, irVersion)
	model = appendBytes(model, modelOpset, appendInt(nil, opsetVersion, opset))
	return appendBytes(model, modelGraph, graph)
}
