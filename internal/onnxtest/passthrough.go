package onnxtest

import "github.com/imgus/worker/models/onnxfile"

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
