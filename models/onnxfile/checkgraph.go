package onnxfile

import "google.golang.org/protobuf/encoding/protowire"

// More numbers of onnx.proto.
const (
	graphSparse = 15

	nodeAttribute = 5

	attributeTensor  = 5
	attributeGraph   = 6
	attributeTensors = 10
	attributeGraphs  = 11
	attributeSparse  = 22
	attributeSparses = 23
)

// graph checks a graph; depth counts the graphs that it is in.
func (c *checker) graph(m span, depth int) error {
	if depth > maxDepth {
		return refused("its graphs are nested more than %d deep", maxDepth)
	}
	return c.each(m, fields(2, 10), func(e element) error {
		switch e.number {
		case graphNode:
			return c.node(e, depth)
		case graphInitializer:
			if err := c.count(&c.summary.Initializers, maxInitializers, "weights"); err != nil {
				return err
			}
			return c.tensor(e)
		case graphSparse:
			if err := c.count(&c.summary.Initializers, maxInitializers, "weights"); err != nil {
				return err
			}
			return c.sparse(e)
		case graphInput, graphOutput:
			if depth > 0 {
				return nil
			}
			return c.value(e)
		}
		return nil
	})
}

func (*checker) count(n *int, limit int, what string) error {
	if *n++; *n > limit {
		return refused("it has more than %d %s", limit, what)
	}
	return nil
}

// value notes an input or output of the outermost graph.
func (c *checker) value(e element) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	if len(c.summary.Inputs)+len(c.summary.Outputs) >= maxValues {
		return refused("it has more than %d inputs and outputs", maxValues)
	}
	data, err := c.bytes(body)
	if err != nil {
		return err
	}
	v, err := parseValue(data)
	if err != nil {
		return err
	}
	if e.number == graphInput {
		c.summary.Inputs = append(c.summary.Inputs, v)
	} else {
		c.summary.Outputs = append(c.summary.Outputs, v)
	}
	return nil
}

func (c *checker) node(e element, depth int) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	if err := c.count(&c.summary.Nodes, maxNodes, "nodes"); err != nil {
		return err
	}
	return c.each(body, fields(nodeName, nodeOp, 6, nodeDomain, 8), func(e element) error {
		switch e.number {
		case nodeOp:
			op, err := c.name(e)
			if err == nil && foreign[op] {
				err = refused("it has a node %s, which stands for code outside the graph", op)
			}
			return err
		case nodeDomain:
			domain, err := c.name(e)
			if err == nil && !operators[domain] {
				err = refused("it has a node of the domain %.80q", domain)
			}
			return err
		case nodeAttribute:
			return c.attribute(e, depth)
		}
		return nil
	})
}

var onceInAttribute = fields(1, 2, 3, 4, attributeTensor, attributeGraph, 13, 14, 20, 21, attributeSparse)

func (c *checker) attribute(e element, depth int) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	return c.each(body, onceInAttribute, func(e element) error {
		switch e.number {
		case attributeTensor, attributeTensors:
			return c.tensor(e)
		case attributeSparse, attributeSparses:
			return c.sparse(e)
		case attributeGraph, attributeGraphs:
			body, err := e.message()
			if err != nil {
				return err
			}
			return c.graph(body, depth+1)
		}
		return nil
	})
}

// sparse checks a tensor that is kept as the values that are not zero, and
// their places.
func (c *checker) sparse(e element) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	return c.each(body, fields(1, 2), func(e element) error {
		if e.number == 1 || e.number == 2 {
			return c.tensor(e)
		}
		return nil
	})
}

// packed reads a field of integers, of which older writers make one field each.
func (c *checker) packed(e element, each func(v int64) error) error {
	if e.kind == protowire.VarintType {
		v, _ := e.number64()
		return each(v)
	}
	body, err := e.message()
	if err != nil {
		return err
	}
	data, err := c.bytes(body)
	for err == nil && len(data) > 0 {
		v, n := protowire.ConsumeVarint(data)
		if n < 0 {
			return broken(n)
		}
		data = data[n:]
		err = each(int64(v)) //nolint:gosec // protobuf's int64 is this very conversion
	}
	return err
}
