package onnxfile

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrPrologue: the graph does not treat its timestep as the exporters do, so it
// is left alone.
var ErrPrologue = errors.New("the timestep is used in a way that cannot be edited")

// VectorTimestep edits the graph so that the input takes one timestep per
// sample instead of one for the whole batch, which the UNet's own code allows
// (diffusers UNet2DConditionModel.forward expands it to the batch) but a traced
// scalar or a fixed [1] forbids. A scalar loses the Unsqueeze that makes it a
// vector; a fixed axis becomes a dynamic one. It reports whether it changed
// anything; ErrPrologue leaves the model unchanged.
func (m *Model) VectorTimestep(input string) (bool, error) {
	at := slices.IndexFunc(m.Inputs, func(v Value) bool { return v.Name == input })
	if at < 0 {
		return false, fmt.Errorf("%w: there is no input %s", ErrPrologue, input)
	}
	value := m.Inputs[at]
	if len(value.Dims) == 1 && value.Dims[0] == Dynamic {
		return false, nil
	}
	graph := slices.Clone(m.graph)
	switch {
	case len(value.Dims) == 1 && value.Dims[0] == 1:
		if err := m.expandsFirst(input); err != nil {
			return false, err
		}
	case len(value.Dims) == 0:
		var err error
		if graph, err = m.withoutUnsqueeze(graph, input); err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("%w: its shape is %v", ErrPrologue, value.Dims)
	}
	for i, f := range graph {
		if f.number == graphInput && f.kind == protowire.BytesType {
			if v, err := parseValue(f.payload); err == nil && v.Name == input {
				graph[i].payload = vectorValue(input, value.Type, bytesField(dimParam, []byte("batch_size")))
			}
		}
	}
	// Shapes noted for intermediate results are stale now; ONNX Runtime infers
	// them again.
	graph = slices.DeleteFunc(graph, func(f field) bool { return f.number == graphValueInfo })
	m.graph = graph
	return true, m.index()
}

// withoutUnsqueeze removes the one Unsqueeze that consumes the input and lets
// its consumers read the input itself.
func (m *Model) withoutUnsqueeze(graph message, input string) (message, error) {
	users := m.users(input)
	if len(users) != 1 || users[0].Op != "Unsqueeze" || len(users[0].Outputs) != 1 {
		return nil, fmt.Errorf("%w: it does not go into one Unsqueeze", ErrPrologue)
	}
	vector := users[0].Outputs[0]
	if err := m.expandsFirst(vector); err != nil {
		return nil, err
	}
	out := make(message, 0, len(graph))
	for _, f := range graph {
		if f.number != graphNode || f.kind != protowire.BytesType {
			out = append(out, f)
			continue
		}
		node, err := parse(f.payload)
		if err != nil {
			return nil, fmt.Errorf("read node: %w", err)
		}
		if slices.Contains(node.strings(nodeOutput), vector) {
			continue
		}
		if slices.Contains(node.strings(nodeInput), vector) {
			node = slices.Clone(node)
			for i, nf := range node {
				if nf.number == nodeInput && string(nf.payload) == vector {
					node[i].payload = []byte(input)
				}
			}
			f.payload = node.encode()
		}
		out = append(out, f)
	}
	return out, nil
}

// expandsFirst checks that a vector of timesteps is cast and expanded to the
// batch before anything else happens to it.
func (m *Model) expandsFirst(name string) error {
	for range 4 {
		users := m.users(name)
		if len(users) != 1 || len(users[0].Outputs) != 1 {
			return fmt.Errorf("%w: it has more than one consumer", ErrPrologue)
		}
		switch users[0].Op {
		case "Expand":
			return nil
		case "Cast", "Identity":
			name = users[0].Outputs[0]
		default:
			return fmt.Errorf("%w: %s comes before Expand", ErrPrologue, users[0].Op)
		}
	}
	return fmt.Errorf("%w: no Expand follows", ErrPrologue)
}

// users lists the nodes that read the value. The graph's outputs do not count.
func (m *Model) users(name string) []Node {
	var out []Node
	for _, n := range m.Nodes {
		if slices.Contains(n.Inputs, name) {
			out = append(out, n)
		}
	}
	return out
}

// ScalarAsVector lets a scalar input be given as a vector of one, which is all
// that changes: the input gets the name returned, and a Squeeze makes it the
// scalar that the graph reads. Bindings that know no scalar of the type can run
// the model then.
func (m *Model) ScalarAsVector(input string) (name string, err error) {
	at := slices.IndexFunc(m.Inputs, func(v Value) bool { return v.Name == input })
	if at < 0 || len(m.Inputs[at].Dims) != 0 {
		return "", fmt.Errorf("%w: there is no scalar input %s", ErrPrologue, input)
	}
	name = input + "/vector"
	squeeze := message{
		bytesField(nodeInput, []byte(name)), bytesField(nodeOutput, []byte(input)),
		bytesField(nodeName, []byte(name+"/squeeze")), bytesField(nodeOp, []byte("Squeeze")),
	}
	graph := append(message{bytesField(graphNode, squeeze.encode())}, m.graph...) // nodes come before their users
	for i, f := range graph {
		if f.number == graphInput && f.kind == protowire.BytesType {
			if v, err := parseValue(f.payload); err == nil && v.Name == input {
				graph[i].payload = vectorValue(name, v.Type, varintField(dimValue, 1))
			}
		}
	}
	m.graph = graph
	return name, m.index()
}

// vectorValue encodes a ValueInfoProto of one axis.
func vectorValue(name string, element ElementType, axis field) []byte {
	dim := message{axis}
	shape := message{bytesField(shapeDim, dim.encode())}
	tensor := message{varintField(tensorElement, int64(element)), bytesField(tensorShape, shape.encode())}
	kind := message{bytesField(typeTensor, tensor.encode())}
	return message{bytesField(valueName, []byte(name)), bytesField(valueType, kind.encode())}.encode()
}
