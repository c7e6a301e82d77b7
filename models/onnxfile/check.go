package onnxfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrRefused: the file breaks a rule that every model must keep.
var ErrRefused = errors.New("refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// What a file may hold at most. The largest UNets of the family have about
// 10,000 nodes, 3,000 weights and a graph of 10 MB.
const (
	maxFile         = 1<<31 - 1 // protobuf's own limit
	maxGraph        = 64 << 20  // bytes that are no weights
	maxFields       = 2_000_000
	maxNodes        = 100_000
	maxInitializers = 100_000
	maxValues       = 4096
	maxDepth        = 8 // of graphs within graphs
)

// The versions that ONNX Runtime reads: IR versions, and versions of ONNX's own
// operators from the oldest that it guarantees.
const (
	minIR, maxIR       = 3, 13
	minOpset, maxOpset = 7, 26
)

// operators are the domains whose operators a node may use: ONNX's and those
// that ONNX Runtime's optimisers put in.
var operators = map[string]bool{
	"": true, "ai.onnx": true, "ai.onnx.ml": true, "com.microsoft": true, "com.microsoft.nchwc": true, "com.ms.internal.nhwc": true,
}

// declared are further domains that ONNX Runtime writes into every model it
// optimises, whether a node uses them or not. No node may.
var declared = map[string]bool{
	"ai.onnx.training": true, "ai.onnx.preview": true, "ai.onnx.preview.training": true, "com.microsoft.experimental": true,
	"com.microsoft.dml": true, "org.pytorch.aten": true,
}

// foreign are operators that run code from outside the graph: compiled by some
// provider, or Python's.
var foreign = map[string]bool{
	"EPContext": true, "Snpe": true, "ATen": true, "PythonOp": true, "PythonOpGrad": true, "TritonOp": true, "ExternalOp": true,
}

// Summary is what a file says of itself.
type Summary struct {
	IRVersion int64
	// Opsets has the version of every domain.
	Opsets map[string]int64
	// Inputs and Outputs are those of the graph as declared; before IR version
	// 4 weights are among the inputs.
	Inputs, Outputs     []Value
	Nodes, Initializers int
	// External lists the files that hold weights, relative to the model's
	// folder.
	External []string
}

// Input finds an input by its name.
func (s Summary) Input(name string) (Value, bool) {
	i := slices.IndexFunc(s.Inputs, func(v Value) bool { return v.Name == name })
	if i < 0 {
		return Value{}, false
	}
	return s.Inputs[i], true
}

// Check reads a model of the size and holds it to the rules for files from
// strangers, before anything else sees it: bounded numbers of everything, known
// versions and operators, no code, and weights in files that external knows. It
// is asked for the size of the file at a location, which is relative to the
// folder of the model; its error refuses the model. Check reads no weights and
// takes little memory, whatever the file. Errors are ErrRefused, or say that the
// file cannot be read or is no ONNX model.
func Check(r io.ReaderAt, size int64, external func(location string) (int64, error)) (Summary, error) {
	if size > maxFile {
		return Summary{}, refused("it has %d bytes; more than %d need external data", size, int64(maxFile))
	}
	c := &checker{
		scan: scan{file: r, fields: maxFields}, external: external, files: map[string]int64{},
		summary: Summary{Opsets: map[string]int64{}},
	}
	if err := c.format(size); err != nil {
		return Summary{}, err
	}
	if err := c.model(span{0, size}); err != nil {
		return Summary{}, err
	}
	if graph := size - c.weights; graph > maxGraph {
		return Summary{}, refused("it has %d bytes besides weights; the limit is %d", graph, maxGraph)
	}
	c.summary.External = slices.Sorted(maps.Keys(c.files))
	return c.summary, nil
}

// Inspect reads what a file says of itself, by the same rules but for the
// external data, which it does not look for.
func Inspect(r io.ReaderAt, size int64) (Summary, error) {
	return Check(r, size, func(string) (int64, error) { return math.MaxInt64, nil })
}

// checker is one check under way.
type checker struct {
	scan

	external func(location string) (int64, error)
	// files are the sizes of files with weights that are known already.
	files   map[string]int64
	weights int64 // bytes of weights within the file
	summary Summary
}

// format refuses ONNX Runtime's other format, which it takes by its look: a
// flat buffer with an identifier after the first offset.
func (c *checker) format(size int64) error {
	head, err := c.peek(0, size, 8)
	if err != nil {
		return err
	}
	if len(head) == 8 && string(head[4:]) == "ORTM" {
		return refused("it is in ORT format")
	}
	return nil
}

// each walks a message. once has a bit for every field that may come once
// only: protobuf would merge two, which is never what a writer does.
func (c *checker) each(m span, once uint64, do func(e element) error) error {
	var seen uint64
	for {
		e, ok, err := c.next(&m)
		if err != nil || !ok {
			return err
		}
		if e.number < 64 {
			bit := uint64(1) << e.number
			if seen&once&bit != 0 {
				return refused("field %d of a message comes twice", e.number)
			}
			seen |= bit
		}
		if err := do(e); err != nil {
			return err
		}
	}
}

// fields makes the bits of each's argument.
func fields(numbers ...int) uint64 {
	var bits uint64
	for _, n := range numbers {
		bits |= 1 << n
	}
	return bits
}

// message is the body of a field that holds a message or string.
func (e element) message() (span, error) {
	if e.kind != protowire.BytesType {
		return span{}, refused("field %d of a message has the wrong type", e.number)
	}
	return e.body, nil
}

func (e element) number64() (int64, error) {
	if e.kind != protowire.VarintType {
		return 0, refused("field %d of a message has the wrong type", e.number)
	}
	return int64(e.value), nil //nolint:gosec // protobuf's int64 is this very conversion
}

var onceInModel = fields(1, 2, 3, 4, 5, 6, modelGraph)

func (c *checker) model(m span) error {
	graph := false
	err := c.each(m, onceInModel, func(e element) error {
		switch e.number {
		case 1:
			v, err := e.number64()
			c.summary.IRVersion = v
			return err
		case modelGraph:
			graph = true
			body, err := e.message()
			if err != nil {
				return err
			}
			return c.graph(body, 0)
		case 8:
			return c.opset(e, true)
		case 20:
			return refused("it holds a training step")
		case 25:
			// Functions that call functions grow without bound when ONNX Runtime
			// inlines them, and no exporter of these models defines any.
			return refused("it defines functions of its own")
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !graph {
		return fmt.Errorf("%w: it has no graph", errBroken)
	}
	if v := c.summary.IRVersion; v < minIR || v > maxIR {
		return refused("its IR version is %d; %d to %d are known", v, minIR, maxIR)
	}
	version, ok := c.summary.Opsets[""]
	if other, both := c.summary.Opsets["ai.onnx"]; both { // the same domain by its other name
		if ok {
			return refused("it imports ONNX's operators twice")
		}
		version, ok = other, true
	}
	if !ok || version < minOpset || version > maxOpset {
		return refused("its opset is %d; %d to %d are known", version, minOpset, maxOpset)
	}
	return nil
}

// opset checks one import of a domain's operators.
func (c *checker) opset(e element, own bool) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	domain, version := "", int64(0)
	err = c.each(body, fields(1, 2), func(e element) (err error) {
		switch e.number {
		case 1:
			domain, err = c.name(e)
		case 2:
			version, err = e.number64()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !operators[domain] && !declared[domain] {
		return refused("it imports operators of the domain %.80q", domain)
	}
	if !own {
		return nil
	}
	if _, twice := c.summary.Opsets[domain]; twice {
		return refused("it imports the domain %.80q twice", domain)
	}
	c.summary.Opsets[domain] = version
	return nil
}

func (c *checker) name(e element) (string, error) {
	body, err := e.message()
	if err != nil {
		return "", err
	}
	return c.text(body)
}
