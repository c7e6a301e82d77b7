package onnxfile

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrLayers: the graph is not the transformer that the edit was made for.
var ErrLayers = errors.New("the layers of the text encoder cannot be told apart")

// SkipLayers adds an output for every number of layers that may be left out,
// 1 to most: the output of the layer that many before the last, through the
// final LayerNorm, as CLIP skip wants it. final is the output that has all
// layers; name gives the new outputs' names. It returns how many it added.
//
// A CLIP layer adds to its input twice, after attention and after the MLP, so
// the stream of residual sums leads from the last layer back to the first. The
// nodes between that stream and the final output, the LayerNorm, are copied.
func (m *Model) SkipLayers(final string, most int, name func(skipped int) string) (int, error) {
	at := slices.IndexFunc(m.Outputs, func(v Value) bool { return v.Name == final })
	if at < 0 {
		return 0, fmt.Errorf("%w: there is no output %s", ErrLayers, final)
	}
	last, err := m.residualBefore(final)
	if err != nil {
		return 0, err
	}
	tail := m.between(last, final)
	graph := slices.Clone(m.graph)
	added := 0
	for stream := last; added < most; added++ {
		attention, ok := m.residualInput(stream)
		if !ok {
			break
		}
		if stream, ok = m.residualInput(attention); !ok {
			break
		}
		suffix := fmt.Sprintf("/skip%d", added+1)
		for _, node := range tail {
			graph = append(graph, bytesField(graphNode, copyNode(node, tail, map[string]string{last: stream, final: name(added + 1)}, suffix)))
		}
		graph = append(graph, bytesField(graphOutput, renamed(m.outputBytes(final), name(added+1))))
	}
	if added == 0 {
		return 0, fmt.Errorf("%w: no layer comes before the last", ErrLayers)
	}
	m.graph = graph
	return added, m.index()
}

// producer is the node that makes the value.
func (m *Model) producer(value string) (Node, bool) {
	i := slices.IndexFunc(m.Nodes, func(n Node) bool { return slices.Contains(n.Outputs, value) })
	if i < 0 {
		return Node{}, false
	}
	return m.Nodes[i], true
}

// isResidual reports whether the node adds two computed values. Adding a bias
// adds a weight.
func (m *Model) isResidual(n Node) bool {
	if n.Op != "Add" || len(n.Inputs) != 2 {
		return false
	}
	for _, in := range n.Inputs {
		p, ok := m.producer(in)
		if !ok || p.Op == "Constant" {
			return false
		}
	}
	return true
}

// residualBefore finds the residual sum that the final output is normalised
// from.
func (m *Model) residualBefore(final string) (string, error) {
	queue, seen := []string{final}, map[string]bool{}
	for len(queue) > 0 && len(seen) < 32 { // a LayerNorm is at most a dozen nodes
		value := queue[0]
		queue = queue[1:]
		node, ok := m.producer(value)
		if !ok || seen[value] {
			continue
		}
		seen[value] = true
		// Spelled out, a LayerNorm adds an epsilon, which is a constant.
		if m.isResidual(node) {
			return value, nil
		}
		queue = append(queue, node.Inputs...)
	}
	return "", fmt.Errorf("%w: no residual sum comes before %s", ErrLayers, final)
}

// residualInput is the input of a residual sum that carries the stream: the
// one that something else reads too, to normalise it.
func (m *Model) residualInput(value string) (string, bool) {
	node, ok := m.producer(value)
	if !ok || !m.isResidual(node) {
		return "", false
	}
	for _, in := range node.Inputs {
		if len(m.users(in)) > 1 {
			return in, true
		}
	}
	return "", false
}

// between lists the nodes that lead from one value to another, in the order of
// the graph.
func (m *Model) between(from, to string) []Node {
	needed := map[string]bool{to: true}
	var out []Node
	for _, n := range slices.Backward(m.Nodes) {
		if slices.Contains(n.Outputs, from) || !slices.ContainsFunc(n.Outputs, func(o string) bool { return needed[o] }) {
			continue
		}
		if n.Op == "Constant" {
			continue // shared, not copied
		}
		for _, in := range n.Inputs {
			needed[in] = in != from
		}
		out = append(out, n)
	}
	slices.Reverse(out)
	return out
}

// copyNode encodes a copy of a node with its values renamed: those given, and
// everything that the copied nodes make.
func copyNode(n Node, copied []Node, rename map[string]string, suffix string) []byte {
	to := func(value string) string {
		if r, ok := rename[value]; ok {
			return r
		}
		if slices.ContainsFunc(copied, func(c Node) bool { return slices.Contains(c.Outputs, value) }) {
			return value + suffix
		}
		return value
	}
	out := slices.Clone(n.fields)
	for i, f := range out {
		switch f.number {
		case nodeInput, nodeOutput:
			out[i].payload = []byte(to(string(f.payload)))
		case nodeName:
			out[i].payload = []byte(string(f.payload) + suffix)
		}
	}
	return out.encode()
}

func (m *Model) outputBytes(name string) []byte {
	for _, f := range m.graph {
		if f.number == graphOutput && f.kind == protowire.BytesType {
			if v, err := parseValue(f.payload); err == nil && v.Name == name {
				return f.payload
			}
		}
	}
	return nil
}

// renamed is a ValueInfoProto under another name.
func renamed(value []byte, name string) []byte {
	fields, err := parse(value)
	if err != nil {
		return nil // it was parsed before
	}
	out := message{bytesField(valueName, []byte(name))}
	for _, f := range fields {
		if f.number != valueName {
			out = append(out, f)
		}
	}
	return out.encode()
}
